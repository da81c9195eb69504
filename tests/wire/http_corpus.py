"""The corpus of heads: `NAME.http` holds the exact bytes, `NAME.json` beside it what they must be read as.

A valid request or response says what it means, which lines may not travel (`drops`) and which lines come
after the rest instead (`adds`); an invalid one the status it is refused with and words of the reason.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argotun.wire.head import find_head_end

ROOT = Path(__file__).with_name("corpus")


@dataclass(frozen=True)
class Case:
    """One head of the corpus with its expectation."""

    name: str
    data: bytes
    expect: dict[str, Any]

    def __str__(self) -> str:
        return self.name


def load(kind: str) -> list[Case]:
    """The cases of `request/valid`, `request/invalid`, `response/valid` or `response/invalid`."""
    return [
        Case(path.stem, path.read_bytes(), json.loads(path.with_suffix(".json").read_text()))
        for path in sorted((ROOT / kind).glob("*.http"))
    ]


def lines_sent_on(case: Case) -> list[bytes]:
    """What `rewrite_*` should make of the field lines: some dropped, the rest as they are, some added."""
    lines = case.data.split(b"\r\n")[1:-2]
    for dropped in case.expect["drops"]:
        lines.remove(dropped.encode("latin-1"))
    return lines + [added.encode("latin-1") for added in case.expect["adds"]]


def read_in_pieces(data: bytes, size: int) -> bytes:
    """The head that a connection finds when `data` comes `size` bytes at a time; all if it has no end."""
    buf = bytearray()
    for at in range(0, len(data), size):
        seen = len(buf)
        buf += data[at : at + size]
        end = find_head_end(buf, seen)
        if end >= 0:
            return bytes(buf[:end])
    return bytes(buf)
