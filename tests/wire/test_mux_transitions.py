"""Each frame in each state of a stream, on both sides of both versions, and what it leads to.

A cell is the state that follows, or
    drop    the frame is ignored, without an answer
    error   a mistake that this stream pays for: ERROR is answered, the sink is told, the stream is over
    tunnel  a mistake that ends the tunnel: ProtocolError
The row NEVER is a stream that was never opened, SKIPPED one whose number is below another that was.
"""

import pytest

from argotun.errors import ProtocolError
from tests.wire.mux_peers import Ear, Side, grid, in_state, started

TABLES = {
    (2, "server"): grid("""
                CONNECT  CONNECTED    DATA         END           WINDOW         ERROR   CLOSE
NEVER           tunnel   tunnel       tunnel       tunnel        tunnel         tunnel  tunnel
SKIPPED         tunnel   drop         drop         drop          drop           drop    drop
OPENING         tunnel   OPEN         error        error         OPENING        CLOSED  CLOSED
OPENING_LOCAL   tunnel   LOCAL_ENDED  error        error         OPENING_LOCAL  CLOSED  CLOSED
OPEN            tunnel   error        OPEN         REMOTE_ENDED  OPEN           CLOSED  CLOSED
LOCAL_ENDED     tunnel   error        LOCAL_ENDED  CLOSED        LOCAL_ENDED    CLOSED  CLOSED
REMOTE_ENDED    tunnel   error        error        error         REMOTE_ENDED   CLOSED  CLOSED
CLOSED          tunnel   drop         drop         drop          drop           drop    drop
"""),
    (2, "agent"): grid("""
                CONNECT  CONNECTED    DATA         END             WINDOW          ERROR   CLOSE
NEVER           OPENING  tunnel       tunnel       tunnel          tunnel          tunnel  tunnel
SKIPPED         OPENING  drop         drop         drop            drop            drop    drop
OPENING         tunnel   error        OPENING      OPENING_REMOTE  OPENING         CLOSED  CLOSED
OPENING_REMOTE  tunnel   error        error        error           OPENING_REMOTE  CLOSED  CLOSED
OPEN            tunnel   error        OPEN         REMOTE_ENDED    OPEN            CLOSED  CLOSED
LOCAL_ENDED     tunnel   error        LOCAL_ENDED  CLOSED          LOCAL_ENDED     CLOSED  CLOSED
REMOTE_ENDED    tunnel   error        error        error           REMOTE_ENDED    CLOSED  CLOSED
CLOSED          OPENING  drop         drop         drop            drop            drop    drop
"""),
    (1, "server"): grid("""
                CONNECT  CONNECTED    DATA         END           WINDOW         ERROR   CLOSE
NEVER           tunnel   drop         drop         tunnel        tunnel         drop    drop
SKIPPED         tunnel   drop         drop         tunnel        tunnel         drop    drop
OPENING         tunnel   OPEN         error        tunnel        tunnel         CLOSED  CLOSED
OPEN            tunnel   error        OPEN         tunnel        tunnel         CLOSED  CLOSED
CLOSED          tunnel   drop         drop         tunnel        tunnel         drop    drop
"""),
    (1, "agent"): grid("""
                CONNECT  CONNECTED    DATA         END           WINDOW         ERROR   CLOSE
NEVER           OPENING  drop         drop         tunnel        tunnel         drop    drop
SKIPPED         OPENING  drop         drop         tunnel        tunnel         drop    drop
OPENING         tunnel   error        OPENING      tunnel        tunnel         CLOSED  CLOSED
OPEN            tunnel   error        OPEN         tunnel        tunnel         CLOSED  CLOSED
CLOSED          OPENING  drop         drop         tunnel        tunnel         drop    drop
"""),
}

PAYLOADS = {"DATA": b"bytes", "WINDOW": (1000).to_bytes(4, "big"), "ERROR": b"no"}
HEARD = {"CONNECTED": "connected", "DATA": "data", "END": "end", "ERROR": "over", "CLOSE": "over"}
"""What a sink is told of a frame that is accepted."""

CASES = [
    pytest.param(*key, row, column, cell, id=f"v{key[0]}-{key[1]}-{row}-{column}")
    for key, table in TABLES.items()
    for (row, column), cell in table.items()
]


def at(version: int, role: str, row: str) -> tuple[Side, int, Ear]:
    """A side, the number of the stream that the row speaks of, and the sink that it has, if any."""
    if row in ("NEVER", "SKIPPED"):
        side = started(version, role)
        if role == "server":
            side.mux._last = 10
            side.mux.open(Ear())
        else:
            side.hear("CONNECT", 11)
        side.mux.collect()
        side.accepted.clear()
        return side, 5 if row == "SKIPPED" else 12, Ear()
    side, stream = in_state(version, role, row)
    side.accepted.clear()
    assert isinstance(stream.sink, Ear)
    return side, stream.id, stream.sink


@pytest.mark.parametrize(("version", "role", "row", "column", "cell"), CASES)
def test_a_frame_leads_where_the_grid_says(version: int, role: str, row: str, column: str, cell: str) -> None:
    side, stream_id, ear = at(version, role, row)
    payload = PAYLOADS.get(column, b"")
    if cell == "tunnel":
        with pytest.raises(ProtocolError) as caught:
            side.hear(column, stream_id, payload)
        assert caught.value.close_code == 1002
        assert not side.say()
        side.mux.lost("protocol error")
        return
    side.hear(column, stream_id, payload)
    if cell == "drop":
        assert not side.say()
        assert not ear.calls
        assert stream_id not in side.mux.streams
    elif cell == "error":
        [(name, answered, text)] = side.say()
        assert (name, answered) == ("ERROR", stream_id)
        assert text == b"protocol error: frame out of order"
        assert ear.calls == [("over", "frame out of order")]
        assert stream_id not in side.mux.streams
    else:
        assert not side.say()
        assert side.state(stream_id) == cell
        assert ear.names == ([HEARD[column]] if column in HEARD else [])
        assert len(side.accepted) == (column == "CONNECT")


@pytest.mark.parametrize("twice", ["ERROR", "CLOSE", "CONNECTED", "END"])
@pytest.mark.parametrize("role", ["server", "agent"])
def test_a_frame_twice_ends_its_stream_only(role: str, twice: str) -> None:
    side, stream = in_state(2, role, "OPENING" if role == "server" and twice == "CONNECTED" else "OPEN")
    side.hear(twice, stream.id)
    side.hear(twice, stream.id)
    side.hear(twice, stream.id)
    assert [name for name, _, _ in side.say()] in ([], ["ERROR"])
    assert not side.mux.streams
    assert isinstance(stream.sink, Ear)
    assert stream.sink.names.count("over") == 1
