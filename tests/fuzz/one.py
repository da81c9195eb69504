"""One target under libFuzzer, in a process of its own: python -m tests.fuzz.one TARGET FLAGS… FOLDERS…"""

import sys

import atheris

# What is instrumented is what coverage guides to; it must not have been imported before.
with atheris.instrument_imports(
    include=[
        "argotun.wire",
        "argotun.config",
        "argotun.policy",
        "argotun.transport.reply",
        "argotun.transport.proxy",
    ],
    enable_loader_override=False,
):
    import tests.conftest
    from tests.fuzz.targets import TARGETS

assert tests.conftest


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name].check)
    atheris.Fuzz()


main()
