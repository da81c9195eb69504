"""A client, its server, tunnels to two clusters, their agents and APIs: what they do, and what may happen.

`Conversation` is a state machine for hypothesis. Each of the EVENTS may come at any moment; what must hold
whatever comes is asserted by the two ends (`http_ends`) and in `teardown`.
"""

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from argotun.wire import reasons
from argotun.wire.frames import V2, Profile
from argotun.wire.head import RequestHead
from argotun.wire.hello import Hello
from argotun.wire.mux import Multiplexer
from argotun.wire.outcomes import Cause, Progress
from argotun.wire.relay import BODY, IDLE, RAW
from argotun.wire.streams import Stream
from tests.wire.http_ends import Asked, Client, Line
from tests.wire.http_halves import UNCONNECTED, Back, Front
from tests.wire.mux_peers import take_in

CLUSTERS = ("a", "b")
GOOD = ("sized", "last", "watch", "trailers", "hints", "close", "none", "here")
RARE = ("up", "up", "upno", "badhead", "badbody", "limited", "stranger", "elsewhere")
BAD = ("there", "noise", "badchunk", "hintless", "more", "switch", "silent")
ALL = 1 << 20

clusters = st.sampled_from(CLUSTERS)
kinds = st.sampled_from((*GOOD, *GOOD, *BAD, *RARE))
callers = st.sampled_from([("GET", 1), ("GET", 1), ("POST", 1), ("HEAD", 1), ("GET", 0)])
picks = st.integers(0, 50)
sizes = st.sampled_from([0, 0, 1, 60, 130, ALL])


class Session:
    """One tunnel: a multiplexer on either side, and what is on its way between them."""

    def __init__(self, world: "Conversation", cluster: str) -> None:
        self.world, self.cluster, self.usable, self.hostile = world, cluster, True, False
        ours = Hello(window=world.window, max_streams=3)
        self.mux = Multiplexer(world.profile, opener=True, ours=ours, budget=64 << 20)
        self.agent = Multiplexer(world.profile, opener=False, ours=ours, budget=64 << 20)
        self.agent.accept = self._accept
        self.flights: tuple[list[bytes], list[bytes]] = ([], [])
        self.backs: list[Back] = []
        for which in (0, 1):
            self.carry(which, 9)

    def _accept(self, stream: Stream, target: str) -> None:
        self.backs.append(self.world.back_half(self.agent, stream, (b"https://api",)))

    @property
    def live(self) -> list[Back]:
        return [back for back in self.backs if not back.closed]

    def carry(self, which: int, count: int) -> None:
        """Deliver so many messages: 0 from server to agent, 1 back."""
        source, target = ((self.mux, self.agent), (self.agent, self.mux))[which]
        flight = self.flights[which]
        flight += [b"".join(parts) for parts in source.collect()]
        for message in flight[:count]:
            self.world.moved += 1
            take_in(target, message)
        del flight[:count]


class Conversation(RuleBasedStateMachine):
    """A client, the tunnels of two clusters, their agents and APIs."""

    profile: Profile = V2
    front_half: type[Front] = Front
    back_half: type[Back] = Back

    @initialize(window=st.sampled_from([40, 700, 1 << 18]))
    def begin(self, window: int) -> None:
        self.window, self.number, self.moved = window, 0, 0
        self.requests: dict[bytes, Asked] = {}
        self.sessions = [Session(self, cluster) for cluster in CLUSTERS]
        self.gone: list[Session] = []
        self.connect()

    def connect(self) -> None:
        self.client = Client()
        self.front = self.front_half(self.client)
        self.unsent, self.half = b"", False

    # ── requests ───────────────────────────────────────────────────────────────────────────────

    @rule(cluster=clusters, kind=kinds, caller=callers, far=st.integers(0, 7))
    def a_request_gets_so_far(self, cluster: str, kind: str, caller: tuple[str, int], far: int) -> None:
        self._ask(cluster, kind, caller)
        self._go(far)

    @rule(
        cluster=clusters,
        kind=kinds,
        caller=callers,
        far=st.integers(0, 6),
        event=st.deferred(lambda: events),
        pick=st.integers(0, 1),
    )
    def a_request_gets_so_far_and_then(
        self, cluster: str, kind: str, caller: tuple[str, int], far: int, event: str, pick: int
    ) -> None:
        self._ask(cluster, kind, caller)
        self._go(far)
        EVENTS[event](self, pick)

    @rule(cluster=clusters, kind=kinds, caller=callers, arrive=st.booleans())
    def a_request_waits_for_an_agent_when_its_own_has_drained(
        self, cluster: str, kind: str, caller: tuple[str, int], arrive: bool
    ) -> None:
        self._ask(cluster, "sized", ("GET", 1))
        self._go(7)
        for pick in range(len(self.sessions)):
            if self.sessions[-1 - pick].cluster == cluster:
                an_agent_drains(self, pick)
        self._ask(cluster, kind, caller)
        self._go(1)
        if arrive:
            self._carry(1)

    def _ask(self, cluster: str, kind: str, caller: tuple[str, int]) -> None:
        front, client = self.front, self.client
        if front.over or front.leaving or client.ended or client.switched is not None or self.half:
            front.leave()
            self.connect()
        if len(self.client.asked) > 2 or any(each.kind == "up" for each in self.client.asked):
            return
        method, minor = caller
        if kind not in GOOD:
            method, minor = "GET" if method == "HEAD" else method, 1
        if kind in ("up", "upno", "badbody"):
            method = "POST" if kind == "badbody" else "GET"
        self.number += 1
        asked = Asked(self.number, "nowhere" if kind == "elsewhere" else cluster, method, kind, minor)
        self.requests[asked.target] = asked
        self.client.asked.append(asked)
        self.unsent += asked.wire

    def _go(self, far: int, short: int = 0) -> None:
        """To the server, the agent, its API; that this was reached, a head, a part go back; all the way.

        The client keeps the last `short` bytes for later.
        """
        steps: tuple[Callable[[], None], ...] = (
            lambda: self.the_client_sends(max(0, len(self.unsent) - short)),
            lambda: self._carry(0),
            self._dials,
            lambda: self._carry(1),
            lambda: self.all_goes_well(0),
            lambda: self.all_goes_well(0),
            self._settle,
        )
        for step in steps[:far]:
            step()

    @rule(size=st.sampled_from([1, 60, 130, ALL]))
    def the_client_sends(self, size: int) -> None:
        data, self.unsent = self.unsent[:size], self.unsent[size:]
        if not self.front.over:
            self.front.unread += data
            self.front.read(self._route)

    def _route(self, front: Front) -> None:
        """Where a request goes: at once where an agent is there, else it waits."""
        asked = self._asked(front.head)
        self.client.in_progress.append(asked)
        if asked.kind == "limited":
            front.end(Cause.RATE_LIMIT)
        elif asked.kind == "stranger":
            front.end(Cause.CALLER)
        elif front.cluster not in CLUSTERS:
            front.end(Cause.UNKNOWN_CLUSTER)
        else:
            front.waiting = True
            self._place()

    def _asked(self, head: RequestHead | None) -> Asked:
        assert head is not None
        return self.requests[head.target]

    def _place(self) -> None:
        front = self.front
        for session in reversed(self.sessions):
            if front.waiting and session.cluster == front.cluster and session.usable:
                self._asked(front.head).hostile |= session.hostile
                front.waiting = False
                front.send(session)

    # ── the way ────────────────────────────────────────────────────────────────────────────────

    @rule(pick=picks, which=st.integers(0, 1), count=st.integers(1, 4))
    def messages_arrive(self, pick: int, which: int, count: int) -> None:
        if self.sessions:
            self.sessions[pick % len(self.sessions)].carry(which, count)

    @rule(size=sizes)
    def all_goes_well(self, size: int) -> None:
        self._carry(0)
        self._dials()
        self.every_api_says(size)
        self._carry(1)
        self.front.read(self._route)

    @rule(size=sizes)
    def every_api_says(self, size: int) -> None:
        for back in self._backs():
            self._says(back, size)

    @rule(event=st.deferred(lambda: events), pick=picks)
    def something_happens(self, event: str, pick: int) -> None:
        EVENTS[event](self, pick)

    def _carry(self, which: int) -> None:
        for session in self.sessions:
            session.carry(which, 50)

    def _backs(self) -> list[Back]:
        """The newest first."""
        return [back for session in self.sessions for back in session.live][::-1]

    def _dials(self) -> None:
        for session in self.sessions:
            for back in session.live:
                if back.dialing:
                    back.dialed(Line(self.requests, session.cluster))

    def _says(self, back: Back, size: int) -> None:
        line = back.line
        if isinstance(line, Line) and not line.dead and (data := line.says(size)):
            self.moved += 1
            back.takes(data)
            if line.now is not None and line.now.kind == "close" and not line.due and not line.closed:
                line.now.clean = True
                back.end(Cause.API_ENDED)

    # ── the end of each run: everything is answered, nothing is left ───────────────────────────

    def _settle(self) -> None:
        for _ in range(200):
            before = self.moved, len(self.front.unread)
            self.all_goes_well(ALL)
            if before == (self.moved, len(self.front.unread)):
                return
        raise AssertionError("the conversation never comes to rest")

    def teardown(self) -> None:
        if not hasattr(self, "client"):
            return
        front = self.front
        while not front.over:
            self.the_client_sends(ALL)
            self._settle()
            if front.waiting:
                no_agent_comes(self, 0)
            elif front.answer.state == RAW:
                the_client_sends_no_more(self, 0)
                self._all_end()
            elif front.answer.state != IDLE:
                self._judge_silence()
            else:
                break
        if not (front.over or front.leaving):
            assert not self.client.asked, "a request is never answered"
        front.leave()
        self._settle()
        for session in self.sessions + self.gone:
            assert not session.mux.streams, "a stream that nobody holds"
            assert not session.agent.streams, "a stream that nobody serves"

    def _all_end(self) -> None:
        for back in self._backs():
            if back.line is not None:
                back.end(Cause.API_ENDED)

    def _judge_silence(self) -> None:
        """Nothing moves, and a request is not answered: only a silent API, or a lie, explains it."""
        asked = self._asked(self.front.head)
        dead = any(isinstance(back.line, Line) and back.line.dead for back in self._backs())
        assert asked.kind == "silent" or asked.hostile or dead, "a request is forgotten"
        self._all_end()
        self._settle()
        if self.front.answer.state != IDLE:
            self.front.end(Cause.API_SILENT)


# ── what may happen ────────────────────────────────────────────────────────────────────────────


def the_server_gives_up(cause: Cause) -> Callable[[Conversation, int], None]:
    def event(world: Conversation, _: int) -> None:
        world.front.end(cause)

    return event


def the_rest_of_a_request_is_late(world: Conversation, _: int) -> None:
    if world.front.upload.state == BODY and not world.front.waiting:
        world.front.malformed(408)


def watches_are_to_end(world: Conversation, _: int) -> None:
    front = world.front
    if front.head is not None and front.head.target.endswith(b"/watch"):
        world.requests[front.head.target].cut_well |= front.answer.progress == Progress.BOUNDARY
        front.end(Cause.WATCH_OVER)


def an_agent_comes(world: Conversation, pick: int) -> None:
    world.sessions.append(Session(world, CLUSTERS[pick % 2]))
    world._place()


def no_agent_comes(world: Conversation, _: int) -> None:
    """Whatever has become of the request: the one who waits is told that the wait is over."""
    if world.front.waiting:
        world.front.waiting = False
        world.front.end(Cause.NO_AGENT)


def the_client_leaves(world: Conversation, _: int) -> None:
    world.front.leave()
    world.connect()


def the_client_sends_no_more(world: Conversation, _: int) -> None:
    if not (world.unsent or world.half or world.front.waiting):
        world.half = True
        if world.client.switched is not None and not world.profile.credit:
            # Version 1 has no half-close: what the API still says is lost.
            world.client.switched.clean = False
        world.front.ended()


def the_client_speaks_raw(world: Conversation, _: int) -> None:
    asked = world.client.switched
    if asked is not None and not world.half and not world.front.over:
        world.unsent, asked.raw = asked.raw, b""
        world.the_client_sends(ALL)


def a_tunnel_is_lost(world: Conversation, pick: int) -> None:
    if world.sessions:
        session = world.sessions.pop(-1 - pick % len(world.sessions))
        world.gone.append(session)
        session.mux.lost("lost")
        session.agent.lost("lost")
        if pick % 3:
            an_agent_comes(world, CLUSTERS.index(session.cluster))


def an_agent_drains(world: Conversation, pick: int) -> None:
    """It takes no more requests; streams without one are closed."""
    if world.sessions:
        session = world.sessions[-1 - pick % len(world.sessions)]
        session.usable = False
        for back in session.live:
            if back.answer.state == IDLE and not back.held:
                back.mux.close(back.stream)
                back.close()


def an_agent_lies(world: Conversation, pick: int) -> None:
    """It says more than it was asked, on each of its streams; its own cluster is all that it can harm."""
    if world.sessions:
        session = world.sessions[-1 - pick % len(world.sessions)]
        session.hostile = True
        for asked in world.client.asked:
            asked.hostile |= asked.cluster == session.cluster
        name = session.cluster.encode()
        for back in session.live:
            if back.stream.state not in UNCONNECTED and back.answer.state != RAW:
                lie = b"HTTP/1.1 200 OK\r\nX-Of: /%b/lie\r\nContent-Length: 0\r\n\r\n" % name
                back.mux.send(back.stream, lie)


Ending = Callable[[Back], None]


def at_an_agent(ending: Ending) -> Callable[[Conversation, int], None]:
    def event(world: Conversation, pick: int) -> None:
        backs = world._backs()
        if backs:
            ending(backs[pick % len(backs)])

    return event


def no_dial_succeeds(back: Back) -> None:
    if back.dialing:
        back.dialed(None)


def the_token_is_gone(back: Back) -> None:
    back.credential = False


def the_policy_forbids(back: Back) -> None:
    back.allowed = False


def the_api_dies_unnoticed(back: Back) -> None:
    """It closes a connection that is idle, and what is written to that from now on is lost."""
    if isinstance(back.line, Line):
        back.line.dead |= back.answer.state == IDLE


def the_api(cause: Cause) -> Ending:
    def ending(back: Back) -> None:
        line = back.line
        if isinstance(line, Line):
            if line.now is not None and cause == Cause.API_ENDED and back.answer.state == RAW:
                back.takes(line.says(ALL))
            if line.now is not None:
                line.now.clean |= cause == Cause.API_ENDED
            back.end(cause)

    return ending


def the_stream_is_reset(reason: int) -> Ending:
    def ending(back: Back) -> None:
        back.mux.reset(back.stream, reason, "broken")
        back.close()

    return ending


def the_stream_is_closed(back: Back) -> None:
    # It says that all is well: where nothing else marks the end, an honest agent cuts no answer by it.
    if back.answer.progress != Progress.UNTIL_CLOSE or back.answer.chunking:
        back.mux.close(back.stream)
        back.close()


def the_stream_fails(back: Back) -> None:
    if back.stream.state not in UNCONNECTED:
        back.mux.fail(back.stream, "broken")
        back.close()


def the_stream_ends(back: Back) -> None:
    progress = back.answer.progress
    if progress == Progress.UNTIL_CLOSE and isinstance(back.line, Line) and back.line.now is not None:
        # Of such an answer it says that it is complete.
        back.line.now.clean = True
    if back.stream.state not in UNCONNECTED and progress != Progress.RAW:
        back.mux.end(back.stream)
        back.close()


def the_agent_passes_noise(back: Back) -> None:
    """Where it can be told from an answer."""
    silent = back.answer.progress in (Progress.DELIVERED, Progress.KEPT, Progress.REPEATABLE)
    between = back.answer.progress == Progress.BOUNDARY
    if back.stream.state not in UNCONNECTED and (silent or between):
        back.mux.send(back.stream, b"noise\0\r\n\r\n")


def a_server_passes_noise(world: Conversation, _: int) -> None:
    """Where it can be told from a request."""
    front = world.front
    upgrade = front.head is not None and front.head.upgrade is not None
    if front.stream is not None and front.upload.state != BODY and not upgrade:
        front.session.mux.send(front.stream, b"noise\0\r\n\r\n")


EVENTS: dict[str, Callable[[Conversation, int], None]] = {
    "the API ends": at_an_agent(the_api(Cause.API_ENDED)),
    "the API breaks": at_an_agent(the_api(Cause.API_LOST)),
    "the API stalls": at_an_agent(the_api(Cause.API_STALLED)),
    "the API dies unnoticed": at_an_agent(the_api_dies_unnoticed),
    "no dial succeeds": at_an_agent(no_dial_succeeds),
    "the token is gone": at_an_agent(the_token_is_gone),
    "the policy forbids": at_an_agent(the_policy_forbids),
    "the stream is closed": at_an_agent(the_stream_is_closed),
    "the stream fails": at_an_agent(the_stream_fails),
    "the stream ends": at_an_agent(the_stream_ends),
    "the agent passes noise": at_an_agent(the_agent_passes_noise),
    "a server passes noise": a_server_passes_noise,
    "the stream is reset": at_an_agent(the_stream_is_reset(reasons.FAILED)),
    "the stream is reset as stale": at_an_agent(the_stream_is_reset(reasons.STALE)),
    "the stream is reset as too many": at_an_agent(the_stream_is_reset(reasons.STREAM_LIMIT)),
    "the stream is reset as elsewhere": at_an_agent(the_stream_is_reset(reasons.NOT_HERE)),
    "an agent drains": an_agent_drains,
    "an agent lies": an_agent_lies,
    "a tunnel is lost": a_tunnel_is_lost,
    "an agent comes": an_agent_comes,
    "no agent comes": no_agent_comes,
    "the API is silent": the_server_gives_up(Cause.API_SILENT),
    "the API takes nothing": the_server_gives_up(Cause.API_STALLED),
    "the drain is over": the_server_gives_up(Cause.DRAINED),
    "watches are to end": watches_are_to_end,
    "the rest of a request is late": the_rest_of_a_request_is_late,
    "the client leaves": the_client_leaves,
    "the client sends no more": the_client_sends_no_more,
    "the client speaks raw": the_client_speaks_raw,
}
events = st.sampled_from(list(EVENTS))
