"""Whatever happens on the way, a request gets one answer: its own or argotun's, whole or visibly cut.

A client connection asks two clusters, pipelines, uploads, upgrades, breaks rules and leaves. On its way are
the pure halves of server and agent, over pairs of multiplexers and a network that delivers when it likes and
in pieces of any size. Anything may end at any moment: the API, a dial, a stream, a tunnel, an agent that
drains, the server's patience, the client. h11 judges what the client gets and what the API is asked.
"""

from collections.abc import Iterable
from itertools import product

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from argotun.wire.frames import V1
from argotun.wire.head import RequestHead
from argotun.wire.outcomes import AGENT, SERVER, Action, Cause, Progress, Table, Verdict
from tests.examples import examples
from tests.wire.http_halves import MET, REPEATABLE, Back, Front
from tests.wire.http_world import BAD, EVENTS, RARE, Conversation, an_agent_drains


class Version1(Conversation):
    """The same over version 1, whose streams carry one request each."""

    profile = V1


OPTIONS = examples(150, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("conversation", [Conversation, Version1])
def test_each_request_gets_one_answer_and_no_other_requests(conversation: type[Conversation]) -> None:
    run_state_machine_as_test(conversation, settings=OPTIONS)  # type: ignore[no-untyped-call]


# ── each event at each point, and two at once ──────────────────────────────────────────────────

Shape = tuple[str, str, int, int]
"""What is asked, by which method and version of HTTP, and how many bytes the client keeps for later."""

GET, POST = ("sized", "GET", 1, 0), ("sized", "POST", 1, 0)
SHAPES: tuple[Shape, ...] = (
    *(GET, POST, ("sized", "POST", 1, 5), ("watch", "GET", 1, 0), ("watch", "POST", 1, 5)),
    *(("close", "GET", 0, 0), ("close", "POST", 0, 5), ("up", "GET", 1, 0), ("badchunk", "GET", 1, 0)),
)
BEFORE = {
    GET: ("", "sized", "last", "drain"),
    POST: ("", "sized", "drain"),
    ("badchunk", "GET", 1, 0): ("", "sized"),
}
"""What the connection has carried before: nothing; a request, after which the connection to the API is kept,
or is not; one whose agent drains now."""

NEVER = """
SERVER CLIENT_ENDED     WAITING
SERVER AGENT_ENDED      SENT
SERVER API_INVALID      SENT UNTIL_CLOSE
AGENT  REQUEST_INVALID  WAITING
AGENT  CLIENT_ENDED     IDLE WAITING DELIVERED KEPT REPEATABLE BODY BOUNDARY UNTIL_CLOSE
AGENT  CLIENT_GONE      WAITING
AGENT  TUNNEL_LOST      WAITING
AGENT  API_INVALID      KEPT REPEATABLE UNTIL_CLOSE
AGENT  UNREACHABLE      KEPT REPEATABLE
AGENT  NO_CREDENTIAL    WAITING
"""
"""Cells that cannot come up: a client is not read while it waits for an agent, the multiplexer lets no DATA
and no END pass before CONNECTED, a server ends one half of upgraded connections only, nothing happens while
an agent's request is WAITING, and an API that has spoken is no longer KEPT."""


def strike(
    conversation: type[Conversation], shape: Shape, far: int, before: str, events: Iterable[str]
) -> None:
    """A request gets so far, then the events; what is asked behind it is to get an answer of its own."""
    world = conversation()
    world.begin(window=1 << 18)
    if before:
        world._ask("b", "sized" if before == "drain" else before, ("GET", 1))
        world._go(7)
    if before == "drain":
        an_agent_drains(world, 0)
    kind, method, minor, short = shape
    try:
        world._ask("b", kind, (method, minor))
        world._go(far, short)
        for event in events:
            EVENTS[event](world, 0)
        world._carry(0)
        world._carry(1)
        world._ask("a", "sized", ("GET", 1))
        world._go(7)
        world.teardown()
    except Exception as error:
        error.add_note(f"{shape} as far as {far}, behind {before or 'nothing'}; then {', '.join(events)}")
        raise


def sweep(conversation: type[Conversation], shapes: Iterable[Shape], points: Iterable[int]) -> None:
    for shape, far, event in product(shapes, points, EVENTS):
        for before in BEFORE.get(shape, ("sized",)):
            strike(conversation, shape, far, before, [event])


def test_each_event_at_each_point_and_each_cell_of_both_tables() -> None:
    MET.clear()  # what random walks have met before does not count
    sweep(Conversation, SHAPES, range(1, 7))
    sweep(Conversation, [GET], [7])
    for both in product(
        EVENTS, ("no dial succeeds", "the stream is closed", "a tunnel is lost", "no agent comes")
    ):
        strike(Conversation, GET, 4, "sized", both)
    strike(Conversation, GET, 2, "last", ("the policy forbids", "no dial succeeds"))
    for kind, before in product((*BAD, *RARE), ("", "sized")):
        strike(Conversation, (kind, "GET", 1, 0), 7, before, ())
    lines = [line.split() for line in NEVER.split("\n") if line]
    never = {(role, cause, progress) for role, cause, *named in lines for progress in named}
    acted = {
        (role, cause.name, progress.name)
        for role, table in (("SERVER", SERVER), ("AGENT", AGENT))
        for cause, progress in product(Cause, Progress)
        if table[cause][progress].action != Action.NOTHING
    }
    assert acted - MET == never


# ── faults that are put back ───────────────────────────────────────────────────────────────────


def changed(table: Table, cells: dict[tuple[Cause, Progress], Verdict]) -> Table:
    return tuple(
        tuple(cells.get((cause, progress), table[cause][progress]) for progress in Progress)
        for cause in Cause
    )


def served(table: Table) -> type[Conversation]:
    """The conversation with another table on the server."""
    front = type("OtherFront", (Front,), {"table": table})
    return type("OtherConversation", (Conversation,), {"front_half": front})


TOLD = (Cause.AGENT_CLOSED, Cause.AGENT_FAILED, Cause.AGENT_ENDED, Cause.TUNNEL_LOST)
LATE = changed(
    SERVER,
    {(cause, Progress.WAITING): Verdict(Action.ANSWER, 502) for cause in TOLD}
    | {(Cause.NO_AGENT, Progress.IDLE): Verdict(Action.ANSWER, 503, 1)},
)
"""The end of an old stream answers a request that was never on it, and so does the end of the wait, later."""


class Keeping(Front):
    """It keeps the stream of an agent that drains while it waits for another."""

    table = LATE

    def begin(self, head: RequestHead | None) -> None:
        self.head = head
        self.answer.ask(head, Progress.WAITING)


class Shifted(Conversation):
    front_half = Keeping


HUNT = settings(
    max_examples=2000,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
"""Until a fault is found that was put there on purpose; the shortest way to it is of no interest."""


def test_the_model_finds_a_request_that_is_answered_twice() -> None:
    with pytest.raises(AssertionError, match="an answer that nobody asked for"):
        run_state_machine_as_test(Shifted, settings=HUNT)  # type: ignore[no-untyped-call]


BROKEN = (Cause.TUNNEL_LOST, Cause.AGENT_FAILED, Cause.DRAINED)
ANSWER, COMPLETE = Verdict(Action.ANSWER, 502), Verdict(Action.COMPLETE)
AGAIN, LAST = Verdict(Action.ANSWER, 503, 1), Verdict(Action.FINAL_CHUNK)


@pytest.mark.parametrize(
    ("verdict", "progress", "kind", "far", "words"),
    [
        (AGAIN, Progress.SENT, "sized", 3, "the API has it"),
        (AGAIN, Progress.DELIVERED, "sized", 4, "the API has it"),
        (Verdict(Action.NOTHING), Progress.DELIVERED, "sized", 4, "is forgotten"),
        (ANSWER, Progress.BODY, "sized", 5, "another's answer"),
        (COMPLETE, Progress.BODY, "sized", 5, "not HTTP"),
        (LAST, Progress.BOUNDARY, "watch", 6, "passes for the whole"),
        (COMPLETE, Progress.UNTIL_CLOSE, "close", 6, "passes for the whole"),
    ],
)
def test_the_model_finds_a_wrong_cell(
    verdict: Verdict, progress: Progress, kind: str, far: int, words: str
) -> None:
    table = changed(SERVER, {(cause, progress): verdict for cause in BROKEN})
    with pytest.raises(AssertionError, match=words):
        sweep(served(table), [shape for shape in SHAPES if shape[0] == kind], [far])


def test_the_model_finds_a_request_that_is_sent_twice_and_must_not_be() -> None:
    cells = {(Cause.API_ENDED, Progress.KEPT): Verdict(Action.REPEAT)}
    back = type("Repeating", (Back,), {"table": changed(AGENT, cells), "repeats": (*REPEATABLE, b"POST")})
    with pytest.raises(AssertionError):
        sweep(type("Repeated", (Conversation,), {"back_half": back}), [POST], [4])
