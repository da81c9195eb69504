"""What is left over after a test: greenlets that run argotun's code, and open descriptors."""

import gc
import os
from pathlib import Path

import gevent

import argotun

SOON = 10.0
"""Seconds until what has ended is gone, also on a busy machine."""

PACKAGE = str(Path(argotun.__file__).parent)


def greenlets() -> list[str]:
    """Where each live greenlet of argotun's stands now, as `file:line function`."""
    found = []
    for item in gc.get_objects():
        if isinstance(item, gevent.Greenlet) and not item.dead and item is not gevent.getcurrent():
            frame = item.gr_frame
            while frame is not None:
                if frame.f_code.co_filename.startswith(PACKAGE):
                    name = Path(frame.f_code.co_filename).name
                    found.append(f"{name}:{frame.f_lineno} {frame.f_code.co_name}")
                    break
                frame = frame.f_back
    return sorted(found)


def descriptors() -> int:
    """How many files and sockets this process has open."""
    return len(os.listdir("/proc/self/fd"))
