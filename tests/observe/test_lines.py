"""Lines to a descriptor: each arrives once, in order, or is counted; a stalled reader stalls nothing."""

import os
from collections.abc import Iterator
from pathlib import Path

import gevent
import gevent.os
import pytest

from argotun.observe import lines as module
from argotun.observe.lines import LineWriter

PIPE_CAPACITY = 64 * 1024
LINE = "x" * 99 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The reading and the writing end of a pipe."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def read_until(fd: int, marker: bytes) -> bytes:
    """Read without blocking other greenlets until the marker has come."""
    gevent.os.make_nonblocking(fd)
    found = b""
    with gevent.Timeout(20):
        while not found.endswith(marker):
            found += gevent.os.nb_read(fd, 65536)
    return found


@pytest.mark.parametrize("delay", [0, 0.01])
def test_lines_arrive_once_and_in_order(pipe: tuple[int, int], delay: float) -> None:
    reader, writer = pipe
    out = LineWriter(writer, delay)
    lines = [f"{number} {'y' * (number % 300)}\n" for number in range(3000)]
    for line in lines:
        out.write(line)
    out.write("end\n")
    assert read_until(reader, b"end\n").decode() == "".join(lines) + "end\n"
    assert out.dropped == 0


def test_without_a_delay_a_line_is_out_when_write_returns(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    LineWriter(writer, delay=0).write("now\n")
    os.set_blocking(reader, False)
    assert os.read(reader, 100) == b"now\n"


def test_with_a_delay_lines_leave_together(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = pipe
    writes = []
    real = os.write
    monkeypatch.setattr(module.os, "write", lambda fd, data: writes.append(data) or real(fd, data))
    out = LineWriter(writer, delay=0.05)
    for number in range(10):
        out.write(f"{number}\n")
    assert writes == []
    read_until(reader, b"9\n")
    assert len(writes) == 1


def test_a_full_batch_does_not_wait_for_the_delay(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    out = LineWriter(writer, delay=3600)
    out.write("first\n")
    gevent.sleep(0)
    for _ in range(module.ENOUGH // len(LINE) + 1):
        out.write(LINE)
    out.write("end\n")
    assert read_until(reader, b"end\n").startswith(b"first\n")


@pytest.mark.parametrize("delay", [0, 0.01])
def test_a_stalled_reader_costs_lines_and_nothing_else(
    pipe: tuple[int, int], delay: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 200_000)
    reader, writer = pipe
    lost: list[int] = []
    out = LineWriter(writer, delay, on_recovery=lost.append)
    turns = 0
    written = 10_000
    for _ in range(written):
        out.write(LINE)
        if _ % 100 == 0:
            gevent.sleep(0.001)
            turns += 1
    assert turns == written / 100
    dropped = out.dropped
    assert written * len(LINE) - PIPE_CAPACITY - 2 * 200_000 <= dropped * len(LINE) < written * len(LINE)
    assert lost == []

    gevent.os.make_nonblocking(reader)
    received = b""
    with gevent.Timeout(20):
        while not lost:
            received += gevent.os.nb_read(reader, 65536)
        out.write("end\n")
        while not received.endswith(b"end\n"):
            received += gevent.os.nb_read(reader, 65536)
    assert received == LINE.encode() * (written - dropped) + b"end\n"
    assert lost == [dropped]


def test_close_writes_what_is_pending(tmp_path: Path) -> None:
    with open(tmp_path / "log", "wb") as file:
        out = LineWriter(file.fileno(), delay=3600)
        for number in range(5000):
            out.write(f"{number}\n")
        out.close()
    assert (tmp_path / "log").read_text() == "".join(f"{number}\n" for number in range(5000))


def test_close_in_the_middle_of_a_batch_repeats_nothing(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    out = LineWriter(writer, delay=0)
    total = 3 * PIPE_CAPACITY // 2 // len(LINE)
    for number in range(total):
        out.write(f"{number:0{len(LINE) - 1}d}\n")
    received = os.read(reader, PIPE_CAPACITY)
    assert 0 < len(received) < total * len(LINE)
    out.close()
    received += read_until(reader, f"{total - 1}\n".encode())
    assert [int(line) for line in received.split()] == list(range(total))


def test_close_gives_up_on_a_stalled_reader_for_good(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    out = LineWriter(writer, delay=0)
    for _ in range(2 * PIPE_CAPACITY // len(LINE)):
        out.write(LINE)
    gevent.sleep(0.001)
    out.close(timeout=0.05)
    before = out.dropped
    out.write("too late\n")
    assert out.dropped == before + 1

    os.set_blocking(reader, False)
    assert os.read(reader, 2 * PIPE_CAPACITY)
    for _ in range(20):
        gevent.sleep(0.001)
    with pytest.raises(BlockingIOError):  # the descriptor may be somebody else's by now
        os.read(reader, 1)


def test_close_gives_a_slow_reader_no_more_time_than_a_stalled_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0

    class SlowReader:
        """Is ready for one more piece half a second after it was asked."""

        def poll(self, milliseconds: float) -> bool:
            nonlocal now
            now += min(milliseconds / 1000, 0.5)
            return milliseconds >= 500

    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    with open(tmp_path / "log", "wb") as file:
        out = LineWriter(file.fileno(), delay=3600)
        out._poller = SlowReader()  # type: ignore[assignment]
        for _ in range(10 * module.PIECE // len(LINE)):
            out.write(LINE)
        out.close(timeout=2.0)
    assert now == 1002.0
    assert 3 * module.PIECE < (tmp_path / "log").stat().st_size <= 4 * module.PIECE


@pytest.mark.parametrize("delay", [0, 0.01])
def test_a_closed_reader_raises_nothing_and_is_counted(delay: float) -> None:
    reader, writer = os.pipe()
    open(reader, "rb", buffering=0).close()
    lost: list[int] = []
    with open(writer, "wb", buffering=0), gevent.Timeout(20):
        out = LineWriter(writer, delay, on_recovery=lost.append)
        for number in range(3):
            out.write(LINE)
            while out.dropped <= number:
                gevent.sleep(0.001)
    assert out.dropped == 3
    assert lost == []


def test_pieces_end_with_lines_where_they_can(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = pipe
    pieces = []
    real = os.write
    monkeypatch.setattr(module.os, "write", lambda fd, data: pieces.append(data) or real(fd, data))
    out = LineWriter(writer, delay=0.01)
    long = "z" * (2 * module.PIECE) + "\n"
    out.write(LINE * 60)
    out.write(long)
    read_until(reader, b"z\n")
    assert all(len(piece) <= module.PIECE for piece in pieces)
    assert b"".join(pieces).decode() == LINE * 60 + long
    assert [piece[-1:] for piece in pieces if b"x" in piece] == [b"\n"] * 2


def test_text_that_utf8_cannot_hold_is_written_escaped(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    LineWriter(writer, delay=0).write("\ud800 é\n")
    assert os.read(reader, 100).decode() == "\\ud800 é\n"
