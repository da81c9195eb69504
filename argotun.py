"""Run argotun from a clone: `python argotun.py --mode server|agent|demo`."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

if __name__ == "__main__":
    # This file has the package's name and would hide it: import from its own folder first.
    sys.path.insert(0, str(HERE))
    from argotun.cli import main

    raise SystemExit(main(sys.argv[1:]))
