"""Run argotun from a clone: `python argotun.py server|agent|demo|pki|status`, or `check`."""

import sys
from os.path import dirname, realpath

if __name__ == "__main__":
    # The package beside this file, and no installed one. In one folder a package wins over a module
    # of its name, so `argotun` is never this file.
    sys.path.insert(0, dirname(realpath(__file__)))
    from argotun.entry import main

    raise SystemExit(main())
