"""Which of many inputs are worth keeping: those that take a way through the code that none before took."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import argotun

PACKAGE = str(Path(argotun.__file__).parent)
Way = tuple[CodeType, int, int]


def ways(check: Callable[[bytes], None], data: bytes) -> set[Way]:
    """The steps from line to line that argotun's code takes on this input."""
    found: set[Way] = set()
    before: dict[FrameType, int] = {}

    def local(frame: FrameType, event: str, _arg: Any) -> Any:
        found.add((frame.f_code, before.get(frame, 0), frame.f_lineno))
        before[frame] = frame.f_lineno
        if event == "return":
            before.pop(frame, None)
        return local

    def entered(frame: FrameType, _event: str, _arg: Any) -> Any:
        return local if frame.f_code.co_filename.startswith(PACKAGE) else None

    sys.settrace(entered)
    try:
        check(data)
    finally:
        sys.settrace(None)
    return found


def worth_keeping(
    check: Callable[[bytes], None], known: Iterable[bytes], found: Iterable[bytes]
) -> list[bytes]:
    """Those of `found`, short ones first, that add to what `known` covers."""
    covered: set[Way] = set()
    for data in known:
        covered |= ways(check, data)
    kept = []
    for data in sorted(found, key=lambda each: (len(each), each)):
        new = ways(check, data) - covered
        if new:
            covered |= new
            kept.append(data)
    return kept
