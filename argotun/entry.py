"""What every way to start argotun calls, before anything slow is imported.

The modules take half a second to load, five where a container has a tenth of a CPU, and a signal that has no
handler is lost to PID 1. So signals are taken first: until a role serves, one ends the process at once. An
agent that is told to end while it starts has not dialled then, and a server has accepted nobody.
"""

import os
import sys

# `signal` is this with enums, and importing those takes half as long as Python takes to start.
from _signal import SIGINT, SIGTERM, signal  # type: ignore[import-not-found]

SIGNALS = (SIGTERM, SIGINT)

OLDEST = (3, 11)
"""The first Python that argotun runs on."""

UNUSABLE = 2
"""The exit code where this Python cannot run argotun, as for any other mistake of who starts it."""

UNTOLD = 1
"""The exit code where all went well, and what was to be said of it could not be written."""


def end(number: int, _frame: object) -> None:
    """End the process with the code that a shell gives for a signal: 143 for SIGTERM, 130 for SIGINT."""
    # An exception could end in an `except` of whatever is being imported.
    os._exit(128 + number)


def _refuse(sentence: str) -> int:
    sys.stderr.write("argotun: " + sentence + "\n")
    return UNUSABLE


def main() -> int:
    """Run argotun with the process's own arguments; its exit code."""
    for number in SIGNALS:
        signal(number, end)
    if sys.version_info < OLDEST:
        return _refuse("argotun needs Python 3.11 or newer, and this is " + sys.version.split()[0])
    from argotun import streams

    streams.secure()
    try:
        from argotun.cli import main as run
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "argotun"):
            raise
        return _refuse(
            f"the package {package} is not installed for {sys.executable}: run `make demo` once and start "
            "argotun by .venv/bin/python, or `pip install -r requirements.txt` into a virtual environment"
        )

    code = run()
    problem = streams.problem(sys.stdout)
    if problem is None or code:
        return code
    print(f"argotun: stdout: {problem.strerror}", file=sys.stderr)
    return UNTOLD
