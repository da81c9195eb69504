"""Queued bytes: small pieces are joined, since each alone takes many times its size."""

from collections import deque

Piece = bytes | bytearray | memoryview

SMALL = 4096
"""Pieces below so many bytes are joined."""


def append(queue: list[Piece] | deque[Piece], data: Piece) -> None:
    """Put `data` behind a queue; the first piece stays as it is: half of it may have been handed out."""
    if len(data) >= SMALL:
        queue.append(data)
        return
    last = queue[-1] if len(queue) > 1 else b""
    if isinstance(last, bytearray) and len(last) < SMALL:
        last += data
    else:
        queue.append(bytearray(data))
