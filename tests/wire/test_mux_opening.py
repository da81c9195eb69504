"""How streams and tunnels begin and end: CONNECT, HELLO, PING, GOAWAY, and the loss of the tunnel."""

import pytest

from argotun.errors import ConnectionLost, ProtocolError
from argotun.wire.frames import MAX_ERROR_TEXT, MAX_PING
from argotun.wire.hello import MAX_TEXT, Hello
from argotun.wire.mux import MAX_CONTROL, Multiplexer
from argotun.wire.reasons import DRAINING, FAILED, REPLACED, WORDS
from argotun.wire.streams import DISCARD
from tests.wire.mux_peers import Ear, Side, exchange, in_state, joined, read, started, take_in


@pytest.mark.parametrize("version", [1, 2])
def test_connect_keeps_its_target(version: int) -> None:
    server, agent = started(version, "server"), started(version, "agent")
    stream = server.mux.open(Ear(), "kubernetes.default.svc:443")
    exchange(server, agent)
    [(accepted, target)] = agent.accepted
    assert target == "kubernetes.default.svc:443"
    assert accepted.id == stream.id == 1


def test_a_hostile_target_is_cut_and_never_raises() -> None:
    agent = started(2, "agent")
    agent.hear("CONNECT", 1, b"\xff" * 100_000)
    [(_, target)] = agent.accepted
    assert target == "\ufffd" * MAX_TEXT


@pytest.mark.parametrize("version", [1, 2])
def test_an_agent_that_opens_is_not_heard(version: int) -> None:
    with pytest.raises(ProtocolError, match="CONNECT from the agent"):
        started(version, "server").hear("CONNECT", 1)


def test_a_multiplexer_without_accept_takes_no_streams() -> None:
    mux = Multiplexer(started(1, "agent").profile, opener=False, ours=Hello(), budget=64 << 20)
    with pytest.raises(ProtocolError, match="no streams"):
        take_in(mux, b"\x01\0\0\0\x01")
    mux.lost("gone")


def test_one_stream_over_the_limit_is_refused() -> None:
    server, agent = started(2, "server"), started(2, "agent", ours=Hello(max_streams=2))
    ears = [Ear() for _ in range(3)]
    streams = [server.mux.open(ear) for ear in ears]
    server.mux.send(streams[2], b"early data of the refused one")
    exchange(server, agent)
    assert len(agent.accepted) == 2
    assert ears[2].calls == [("over", "stream limit reached")]
    agent.mux.reset(agent.accepted[0][0])
    exchange(server, agent)
    server.mux.open(Ear())
    exchange(server, agent)
    assert len(agent.accepted) == 3


def test_numbers_wrap_around_and_hit_no_live_stream() -> None:
    server, agent = started(2, "server"), started(2, "agent")
    first = server.mux.open(Ear())
    server.mux._last = 0xFFFFFFFE
    numbers = [server.mux.open(Ear()).id for _ in range(3)]
    exchange(server, agent)
    assert first.id == 1
    assert numbers == [0xFFFFFFFF, 2, 3]
    assert [stream.id for stream, _ in agent.accepted] == [1, 0xFFFFFFFF, 2, 3]


def test_a_reused_number_does_not_hear_of_the_stream_before() -> None:
    server, agent = started(2, "server"), started(2, "agent")
    old = server.mux.open(Ear())
    exchange(server, agent)
    server.mux.reset(old)
    server.mux._last = 0
    ear = Ear()
    new = server.mux.open(ear)
    server.mux.send(new, b"new")
    exchange(server, agent)
    assert new.id == old.id
    assert [stream.sink.data for stream, _ in agent.accepted] == [b"", b"new"]  # type: ignore[attr-defined]
    assert ear.calls == []


def test_version_2_does_not_wait_for_connected_before_data() -> None:
    server = started(2, "server")
    stream = server.mux.open(Ear())
    server.mux.send(stream, b"GET")
    server.mux.end(stream)
    assert [name for name, _, _ in server.say()] == ["CONNECT", "DATA", "END"]


@pytest.mark.parametrize("ending", ["end", "close"])
def test_version_1_waits_for_connected_before_data(ending: str) -> None:
    server = started(1, "server")
    stream = server.mux.open(Ear(), "api:443")
    server.mux.send(stream, b"GET")
    getattr(server.mux, ending)(stream)
    assert server.say() == [("CONNECT", 1, b"api:443")]
    assert not server.mux.waiting
    server.hear("CONNECTED", 1)
    assert server.say() == [("DATA", 1, b"GET"), ("CLOSE", 1, b"")]
    assert not server.mux.streams


@pytest.mark.parametrize("version", [1, 2])
def test_an_agent_does_not_send_before_it_is_connected(version: int) -> None:
    agent = started(version, "agent")
    agent.hear("CONNECT", 1)
    stream, _ = agent.accepted[0]
    agent.mux.send(stream, b"early")
    agent.mux.end(stream)
    assert not agent.say()
    agent.mux.connected(stream)
    agent.mux.connected(stream)
    last = "END" if version == 2 else "CLOSE"
    assert agent.say() == [("CONNECTED", 1, b""), ("DATA", 1, b"early"), (last, 1, b"")]


def test_the_opener_cannot_say_connected() -> None:
    server, stream = in_state(2, "server", "OPENING")
    server.mux.connected(stream)
    assert not server.say()
    assert server.state(stream.id) == "OPENING"


@pytest.mark.parametrize("version", [1, 2])
def test_a_stream_that_never_connected_is_closed_at_once(version: int) -> None:
    side, stream = in_state(version, "server", "OPENING")
    side.mux.close(stream)
    assert side.say() == [("CLOSE", 1, b"")]
    assert not side.mux.streams


@pytest.mark.parametrize(("version", "state"), [(1, "OPENING"), (2, "OPENING"), (2, "OPENING_REMOTE")])
def test_a_stream_that_fails_before_it_is_connected_says_so_at_once(version: int, state: str) -> None:
    side, stream = in_state(version, "agent", state)
    side.mux.fail(stream, "the API is gone")
    assert side.say() == [("ERROR", 1, b"the API is gone")]
    assert not side.mux.streams


@pytest.mark.parametrize("role", ["server", "agent"])
def test_hello_is_the_first_frame(role: str) -> None:
    side = Side(2, role, Hello(release="1.0", target="api:443"))
    side.mux.ping(b"x")
    assert [name for name, _, _ in side.say()] == ["HELLO", "PING"]


@pytest.mark.parametrize("name", ["CONNECT", "CONNECTED", "DATA", "ERROR", "CLOSE", "WINDOW", "END"])
def test_no_stream_lives_before_hello(name: str) -> None:
    with pytest.raises(ProtocolError, match=f"{name} before HELLO"):
        Side(2, "agent").hear(name, 1, b"\0\0\0\1")


@pytest.mark.parametrize("name", ["PING", "PONG", "GOAWAY"])
def test_no_tunnel_frame_passes_before_hello(name: str) -> None:
    with pytest.raises(ProtocolError, match=f"{name} before HELLO"):
        Side(2, "agent").hear(name)


@pytest.mark.parametrize("payload", [b"", b"x", b"[]", b'{"window":0}', b"[" * 9000, b" " * 20_000])
def test_a_bad_hello_is_refused(payload: bytes) -> None:
    side = Side(2, "server")
    with pytest.raises(ProtocolError, match="HELLO"):
        side.hear("HELLO", 0, payload)
    assert side.mux.theirs is None
    assert side.told == []


def test_a_second_hello_is_refused() -> None:
    side = started(2, "server", Hello(release="1"))
    with pytest.raises(ProtocolError, match="second HELLO"):
        side.hear("HELLO", 0, Hello(release="2").encode())
    assert side.told == [("hello", Hello(release="1"))]


def test_a_stream_that_was_opened_before_hello_gets_its_credit_then() -> None:
    server, agent = Side(2, "server"), Side(2, "agent", Hello(window=10))
    stream = server.mux.open(Ear())
    server.mux.send(stream, b"0123456789abc")
    sent = server.mux.collect()
    assert [name for name, _, _ in read(server.profile, joined(sent))] == ["HELLO", "CONNECT"]
    for message in joined(sent):
        take_in(agent.mux, message)
    exchange(server, agent)
    accepted, _ = agent.accepted[0]
    assert accepted.sink.data == b"0123456789"  # type: ignore[attr-defined]
    agent.mux.consumed(accepted, 10, 1.0)
    exchange(server, agent)
    assert accepted.sink.data == b"0123456789abc"  # type: ignore[attr-defined]


@pytest.mark.parametrize("version", [1, 2])
def test_a_ping_is_echoed_within_bounds(version: int) -> None:
    side = started(version, "agent")
    side.hear("PING", 0, b"time")
    side.hear("PING", 0, b"x" * 100_000)
    assert side.say() == [("PONG", 0, b"time"), ("PONG", 0, b"x" * MAX_PING)]
    side.hear("PONG", 0, b"time")
    assert side.told[-1] == ("pong", b"time")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", ["PING", "CONNECT"])
def test_a_flood_does_not_grow_memory_while_the_socket_is_full(version: int, name: str) -> None:
    side = started(version, "agent", ours=Hello(max_streams=1))
    flood = (number if name == "CONNECT" else 0 for number in range(1, MAX_CONTROL))

    def drown() -> None:
        for number in flood:
            side.hear(name, number)

    with pytest.raises(ProtocolError, match="floods"):
        drown()
    assert side.mux._out.control_size < MAX_CONTROL + 200
    side.mux.lost("flood")
    assert not side.mux.waiting


def test_pings_that_are_answered_do_not_count_as_a_flood() -> None:
    side = started(2, "agent")
    for _ in range(3):
        for _ in range(MAX_CONTROL // 200):
            side.hear("PING", 0, b"x" * 100)
        side.mux.collect()


def test_goaway_is_told_once_for_each_reason_and_bounded() -> None:
    server, agent = started(2, "server"), started(2, "agent")
    server.mux.goaway(DRAINING, "draining " + "x" * 5000)
    server.mux.goaway(DRAINING, "again")
    server.mux.goaway(REPLACED)
    server.mux.goaway(DRAINING, "once more")
    exchange(server, agent)
    told = [argument for name, argument in agent.told if name == "goaway"]
    assert [len(str(text)) for text in told] == [MAX_ERROR_TEXT, len(WORDS[REPLACED])]
    assert agent.mux.away == {FAILED, REPLACED}
    assert server.mux.going_away
    assert not server.mux.away


def test_streams_outlive_goaway() -> None:
    server, agent = started(2, "server"), started(2, "agent")
    stream = server.mux.open(Ear())
    exchange(server, agent)
    server.mux.goaway(DRAINING, "draining")
    agent.mux.connected(agent.accepted[0][0])
    exchange(server, agent)
    server.mux.send(stream, b"goes on")
    exchange(server, agent)
    assert agent.accepted[0][0].sink.data == b"goes on"  # type: ignore[attr-defined]


def test_version_1_does_not_hear_goaway() -> None:
    server = started(1, "server")
    server.mux.goaway(DRAINING, "draining")
    assert not server.mux.waiting
    assert server.mux.going_away


def test_nothing_begins_on_a_tunnel_that_is_lost() -> None:
    server = started(2, "server")
    ears = [Ear(), Ear()]
    streams = [server.mux.open(ear) for ear in ears]
    server.mux.send(streams[0], b"queued")
    server.mux.lost("keepalive timeout")
    server.mux.lost("again")
    assert [ear.calls for ear in ears] == [[("lost", "keepalive timeout")]] * 2
    assert not server.mux.waiting
    with pytest.raises(ConnectionLost, match="keepalive timeout"):
        server.mux.open(Ear())
    server.mux.ping()
    server.mux.send(streams[0], b"x")
    server.hear("PING")
    server.hear("DATA", 7, b"x")
    assert not server.mux.streams
    assert server.say() == []


def test_no_stream_begins_in_the_message_that_saw_the_loss() -> None:
    agent = started(2, "agent")
    agent.mux.accept = lambda stream, target: agent.mux.lost("the API's answer could not be written")
    take_in(agent.mux, b"".join(agent.profile.pack(1, number) for number in (1, 2, 3)))
    assert not agent.mux.streams
    assert not agent.mux.waiting


def test_a_sink_may_end_another_stream_while_it_is_told() -> None:
    server = started(2, "server")
    second = Ear()

    class Ends(Ear):
        def on_lost(self, reason: str) -> None:
            server.mux.reset(stream, FAILED, "because of the other")

    server.mux.open(Ends())
    stream = server.mux.open(second)
    server.mux.collect()
    server.mux.lost("gone")
    assert second.calls == [("lost", "gone")]
    assert server.mux.intake.account.used == 0
    assert not server.mux.waiting


def test_a_stream_without_a_listener_stops_no_loss() -> None:
    agent = started(2, "agent")
    agent.mux.accept = lambda stream, target: None
    agent.hear("CONNECT", 1)
    assert agent.mux.streams[1].sink is DISCARD
    agent.mux.lost("gone")
