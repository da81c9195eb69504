"""The ways in which the same bytes may arrive."""

from collections.abc import Iterator

POINTS = 10
"""So many places where an input is cut in two; a short one at every place."""


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """`data` in two pieces, cut at many places, and in single bytes; never an empty piece."""
    step = max(len(data) // POINTS, 1)
    for at in range(1, len(data), step):
        yield [data[:at], data[at:]]
    if len(data) > 1:
        yield [data[at : at + 1] for at in range(len(data))]
