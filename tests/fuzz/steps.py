"""Work in steps, not in seconds: how often Python code is called, which no busy machine changes."""

import sys
from types import FrameType, TracebackType
from typing import Self


class Steps:
    """Fails when the block makes more calls than an input of `size` bytes may cost.

    What grows with the square of the input goes over the line soon; what a regular expression does is no
    call: tests/wire/test_head_linear.py looks at that.
    """

    FIXED, FOR_EACH_BYTE = 500, 12

    def __init__(self, size: int) -> None:
        self._limit = self.FIXED + self.FOR_EACH_BYTE * size
        self.made = 0

    def _count(self, _frame: FrameType, event: str, _arg: object) -> None:
        self.made += event == "call"

    def __enter__(self) -> Self:
        sys.setprofile(self._count)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.setprofile(None)
        assert self.made <= self._limit, f"{self.made} calls, where {self._limit} are enough"
