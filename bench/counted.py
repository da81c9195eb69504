"""argotun with one thing more: on SIGUSR1 it writes into a file where each of its greenlets is.

python -m bench.counted FILE [options of argotun]
"""

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import gc
import os
import signal
import sys
from pathlib import Path

import gevent
from greenlet import greenlet

from argotun import cli


def place(item: greenlet) -> str:
    """Where a greenlet is in argotun's own code, innermost first."""
    found, frame = [], item.gr_frame
    while frame is not None:
        code, frame = frame.f_code, frame.f_back
        if "argotun" in code.co_filename:
            found.append(f"{Path(code.co_filename).name}:{code.co_name}")
    return " < ".join(found) or "elsewhere"


def count(path: Path) -> None:
    """Write a line for each as one step, for somebody who waits for the file."""
    gc.collect()
    alive = [item for item in gc.get_objects() if isinstance(item, greenlet) and item]
    fresh = path.with_suffix(".new")
    fresh.write_text("\n".join(sorted(map(place, alive))))
    os.replace(fresh, path)


if __name__ == "__main__":
    # The hub calls handlers in greenlets of their own: each counts itself, then and at all times.
    gevent.signal_handler(signal.SIGUSR1, count, Path(sys.argv[1]))
    sys.exit(cli.main(sys.argv[2:]))
