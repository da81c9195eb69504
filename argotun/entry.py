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

UNTOLD = 1
"""The exit code where all went well, and what was to be said of it could not be written."""


def end(number: int, _frame: object) -> None:
    """End the process with the code that a shell gives for a signal: 143 for SIGTERM, 130 for SIGINT."""
    # An exception could end in an `except` of whatever is being imported.
    os._exit(128 + number)


def main() -> int:
    """Run argotun with the process's own arguments; its exit code."""
    for number in SIGNALS:
        signal(number, end)
    from argotun import streams

    streams.secure()
    from argotun.cli import main as run

    code = run()
    problem = streams.problem(sys.stdout)
    if problem is None or code:
        return code
    print(f"argotun: stdout: {problem.strerror}", file=sys.stderr)
    return UNTOLD
