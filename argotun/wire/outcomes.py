"""What a client gets when something ends: *who ended it* × *what the client has*, as two tables.

Theory of operation
-------------------

A request has one answer. It may end in its last byte, and then nothing here is asked. Or it may end because
somebody on the way gives up, dies, breaks a rule or runs out of time, and then two facts decide what the
client gets: the `Cause`, and how far the answer has come, its `Progress`. Possibly the simplest way to think
about it is that each row is somebody who hangs up, and each column is what the client would believe if we
hung up on it now:

* Before anything of the request was given to anybody (WAITING), a client may safely ask again: 503 or 429
  with Retry-After, which client-go obeys even for a POST. What ends then cannot be this request's own.
* Once an agent has it (SENT), and has said that it reached its API (DELIVERED), the request may have been
  carried out. Nobody may repeat it unasked, so the answer is a 502 or 504 without Retry-After. Only a request
  that nobody has, or that does no harm a second time, is asked again of another agent first: the client sees
  the answer to that, or what the cell says.
* With a part of the answer written (BODY), no status can be said any more. The connection is aborted: a
  reset cannot be taken for the end of an answer. Between two chunks (BOUNDARY) a watch can be ended well.
* An answer that the end of the connection completes (UNTIL_CLOSE) is complete when the API says so, and cut
  whenever anybody else does.
* After a switch of protocols (RAW) there are two halves, and one may outlive the other.

With no request in progress (IDLE) the server has nobody to tell: every cell is NOTHING. That column is why a
request cannot be answered twice: whatever is decided moves the answer to IDLE, or keeps it where it is.

The agent has a table of its own. Its client is the server, its "connection aborted" is an ERROR behind what
was said, and it can do two things that the server cannot: ask once more, or have the client ask once more,
when a kept connection to the API turns out to have been closed while it was idle (RFC 9112 §9.3.1). A request
that has gone out on such a connection is KEPT, or REPEATABLE where asking twice does no harm.

Everything here is data. tests/wire/test_outcomes.py holds the grid as text, and docs/operations.md shows it.
"""

from enum import IntEnum, auto
from typing import NamedTuple

RETRY_AFTER = 1
"""Seconds that a client is asked to wait where its request certainly did not reach the API."""

CLIENT_CLOSED = 499
"""The status in records where nobody waited for the answer any more (nginx has the same)."""


class Progress(IntEnum):
    """What a client has of its answer."""

    IDLE = 0
    """No request is in progress."""
    WAITING = auto()
    """Nothing, and the request was given to nobody: the server waits for an agent, the agent dials again."""
    SENT = auto()
    """Nothing; the agent has the request but has not said that it reached its API (server only)."""
    DELIVERED = auto()
    """Nothing, or interim answers; the API may have the request."""
    KEPT = auto()
    """As DELIVERED, on a connection that has served before and has said nothing since (agent only)."""
    REPEATABLE = auto()
    """As KEPT, and the request may be sent twice (agent only)."""
    BODY = auto()
    """The head and a part of a body whose end is marked by its length or its last chunk."""
    BOUNDARY = auto()
    """As BODY, with whole chunks only."""
    UNTIL_CLOSE = auto()
    """The head and a part of a body that ends with the connection."""
    RAW = auto()
    """A 101, and bytes of the other protocol."""


# For the hot path: to ask an enumeration for a member costs as much as a call (until Python 3.12).
WAITING = Progress.WAITING
SENT = Progress.SENT
DELIVERED = Progress.DELIVERED
KEPT = Progress.KEPT
REPEATABLE = Progress.REPEATABLE


class Cause(IntEnum):
    """Who or what ended a request before its answer was complete."""

    # The server refuses it.
    UNKNOWN_CLUSTER = 0
    NO_AGENT = auto()
    RATE_LIMIT = auto()
    CALLER = auto()
    """Whoever asks may not."""
    # The client's own doing.
    REQUEST_INVALID = auto()
    """Malformed, too large or too slow: the error says which status."""
    CLIENT_ENDED = auto()
    """It sends no more: with a request in progress it has left, after a switch one half is over."""
    CLIENT_GONE = auto()
    """Its connection is over, or on the agent its stream is."""
    # The agent says so.
    AGENT_ENDED = auto()
    """END: the API has said all that it will say."""
    AGENT_CLOSED = auto()
    """CLOSE: both directions are over, and nothing went wrong."""
    AGENT_FULL = auto()
    """ERROR: the agent's limit of streams is reached."""
    AGENT_STALE = auto()
    """ERROR: a kept connection to the API was found closed under a request that must not be sent twice."""
    AGENT_FAILED = auto()
    """ERROR for any other reason."""
    TUNNEL_LOST = auto()
    NOT_HERE = auto()
    """ERROR: another replica was asked that has no agent of the cluster."""
    # The API.
    API_ENDED = auto()
    """It closed its connection cleanly (agent only)."""
    API_LOST = auto()
    """Its connection broke (agent only)."""
    API_INVALID = auto()
    """Its answer is not to be trusted: two parsers could read it differently, or it leads elsewhere."""
    API_SILENT = auto()
    """It owes an answer, or the rest of one, for too long."""
    API_STALLED = auto()
    """It takes nothing of the request for too long."""
    UNREACHABLE = auto()
    """No connection to it could be made (agent only)."""
    NO_CREDENTIAL = auto()
    """The agent has no token to add (agent only)."""
    FORBIDDEN = auto()
    """The customer's policy refuses it: nothing else here is for the cluster to say (agent only)."""
    # This process ends.
    WATCH_OVER = auto()
    """The server would like a watch to end now, if that can be done well."""
    DRAINED = auto()
    """The time for requests in progress is over."""


class Action(IntEnum):
    """What is to be done."""

    NOTHING = 0
    """The request, if there is one, goes on."""
    ANSWER = auto()
    """Answer in argotun's own name."""
    CUT = auto()
    """Abort, so that a part cannot pass for the whole: the client's connection, or the stream by ERROR."""
    COMPLETE = auto()
    """All has been said: the answer is complete."""
    FINAL_CHUNK = auto()
    """Complete the answer with a last chunk."""
    HALF = auto()
    """One direction is over, the other lives on."""
    FORGET = auto()
    """Nobody is left to tell."""
    STALE = auto()
    """Let the client decide whether to ask again: the agent tells the server so."""
    REPEAT = auto()
    """Send the request once more on a new connection."""
    RESET = auto()
    """End the stream at once, by ERROR (agent)."""
    RELEASE = auto()
    """Give up the connection to the API and keep the stream (agent)."""
    CLOSE = auto()
    """End both directions behind what is queued (agent)."""
    ELSEWHERE = auto()
    """Nobody has the request: ask another agent, if there is one, else ANSWER (server)."""
    AGAIN = auto()
    """As ELSEWHERE, and one that is on its way has time to come (server)."""
    AGAIN_IF_SAFE = auto()
    """As AGAIN where asking twice does no harm, else ANSWER (server)."""


class Verdict(NamedTuple):
    """An action; for ANSWER the status (0: the error's own) and the seconds of Retry-After (0: none)."""

    action: Action
    status: int = 0
    retry_after: int = 0


class Refusal(NamedTuple):
    """Why a request goes nowhere: the cause, words for the client, the status of an error with its own."""

    cause: Cause
    words: str
    status: int = 0


___ = Verdict(Action.NOTHING)
Own = Verdict(Action.ANSWER)
F03 = Verdict(Action.ANSWER, 403)
R29 = Verdict(Action.ANSWER, 429, RETRY_AFTER)
R03 = Verdict(Action.ANSWER, 503, RETRY_AFTER)
N03 = Verdict(Action.ANSWER, 503)
B02 = Verdict(Action.ANSWER, 502)
T04 = Verdict(Action.ANSWER, 504)
E29 = Verdict(Action.ELSEWHERE, 429, RETRY_AFTER)
E03 = Verdict(Action.ELSEWHERE, 503, RETRY_AFTER)
A03 = Verdict(Action.AGAIN, 503, RETRY_AFTER)
S02 = Verdict(Action.AGAIN_IF_SAFE, 502)
Cut = Verdict(Action.CUT)
Don = Verdict(Action.COMPLETE)
Fin = Verdict(Action.FINAL_CHUNK)
Haf = Verdict(Action.HALF)
Gon = Verdict(Action.FORGET)
Sta = Verdict(Action.STALE)
Rep = Verdict(Action.REPEAT)
Rst = Verdict(Action.RESET)
Rel = Verdict(Action.RELEASE)
Cls = Verdict(Action.CLOSE)

Table = tuple[tuple[Verdict, ...], ...]


def _table(columns: str, rows: dict[Cause, tuple[Verdict, ...]]) -> Table:
    """Rows over the named columns as `table[cause][progress]`; what is not named is NOTHING."""
    places = [Progress[name] for name in columns.split()]
    return tuple(
        tuple(
            rows[cause][places.index(progress)] if cause in rows and progress in places else ___
            for progress in Progress
        )
        for cause in Cause
    )


# fmt: off
SERVER = _table(
    "                      WAITING SENT DELIVERED BODY BOUNDARY UNTIL_CLOSE RAW", {
    Cause.UNKNOWN_CLUSTER: (R03,   ___,   ___,    ___,   ___,   ___,        ___),
    Cause.NO_AGENT:        (R03,   ___,   ___,    ___,   ___,   ___,        ___),
    Cause.RATE_LIMIT:      (R29,   ___,   ___,    ___,   ___,   ___,        ___),
    # Not a 401, 403 or 404: Argo CD would drop what it knows of the cluster. Asking again would not help.
    Cause.CALLER:          (N03,   ___,   ___,    ___,   ___,   ___,        ___),
    Cause.REQUEST_INVALID: (Own,   Own,   Own,    Cut,   Cut,   Cut,        ___),
    # A client that sends no more may still read, and takes the end of its connection for that of the answer.
    Cause.CLIENT_ENDED:    (Gon,   Gon,   Gon,    Cut,   Cut,   Cut,        Haf),
    Cause.CLIENT_GONE:     (Gon,   Gon,   Gon,    Cut,   Cut,   Cut,        Gon),
    # Version 1 has no END: its CLOSE says the same. One that comes before CONNECTED says that the API was
    # never reached, and one in a marked body that it lost its connection.
    Cause.AGENT_ENDED:     (___,   R03,   B02,    Cut,   Cut,   Don,        Haf),
    Cause.AGENT_CLOSED:    (___,   E03,   B02,    Cut,   Cut,   Don,        Don),
    Cause.AGENT_FULL:      (___,   E29,   B02,    Cut,   Cut,   Cut,        Cut),
    # A client repeats by itself when a kept connection ends without an answer (RFC 9110 §9.2.2). Before
    # CONNECTED no agent has one; if it says so all the same, it says that the API may have the request.
    Cause.AGENT_STALE:     (___,   Cut,   Cut,    Cut,   Cut,   Cut,        Cut),
    Cause.AGENT_FAILED:    (___,   E03,   B02,    Cut,   Cut,   Cut,        Cut),
    # The word that the API was reached may have been lost with the tunnel.
    Cause.TUNNEL_LOST:     (___,   S02,   S02,    Cut,   Cut,   Cut,        Cut),
    # Once CONNECTED there was an agent: then it is nonsense.
    Cause.NOT_HERE:        (___,   A03,   B02,    Cut,   Cut,   Cut,        Cut),
    Cause.API_INVALID:     (___,   B02,   B02,    Cut,   Cut,   Cut,        ___),
    # `--reconnect-grace` is the limit of WAITING. In SENT the agent may reach its API this very moment.
    Cause.API_SILENT:      (___,   T04,   T04,    Cut,   Cut,   Cut,        ___),
    Cause.API_STALLED:     (___,   T04,   T04,    Cut,   Cut,   Cut,        Cut),
    Cause.WATCH_OVER:      (___,   ___,   ___,    ___,   Fin,   ___,        ___),
    # Not a 502: Go's client repeats a GET by itself after a reset, and no POST. Between two chunks only a
    # watch is complete (WATCH_OVER); of a list or a log the rest is missing.
    Cause.DRAINED:         (R03,   Cut,   Cut,    Cut,   Cut,   Cut,        Cut),
})
"""`SERVER[cause][progress]`: what Argo CD gets."""

AGENT = _table(
    "                      IDLE WAITING DELIVERED KEPT REPEATABLE BODY BOUNDARY UNTIL_CLOSE RAW", {
    Cause.REQUEST_INVALID: (Own,  Own,    Own,    Own,   Own,     Rst,   Rst,   Rst,        ___),
    Cause.CLIENT_ENDED:    (Gon,  Gon,    Gon,    Gon,   Gon,     Gon,   Gon,   Gon,        Haf),
    # After a switch the client may have said something before it left, which is delivered first.
    Cause.CLIENT_GONE:     (Gon,  Gon,    Gon,    Gon,   Gon,     Gon,   Gon,   Gon,        Don),
    Cause.TUNNEL_LOST:     (Gon,  Gon,    Gon,    Gon,   Gon,     Gon,   Gon,   Gon,        Gon),
    Cause.API_ENDED:       (Rel,  ___,    B02,    Sta,   Rep,     Cut,   Cut,   Don,        Haf),
    Cause.API_LOST:        (Rel,  ___,    B02,    Sta,   Rep,     Cut,   Cut,   Cut,        Cls),
    Cause.API_INVALID:     (Rel,  ___,    B02,    B02,   B02,     Cut,   Cut,   Cut,        ___),
    Cause.API_STALLED:     (Rel,  ___,    T04,    T04,   T04,     Cut,   Cut,   Cut,        Cut),
    # In IDLE no request of the stream was read yet: the server answers. Else it has heard of a connection.
    # In DELIVERED it is a REPEAT that finds no connection: that request may be sent any number of times.
    Cause.UNREACHABLE:     (Rst,  R03,    R03,    B02,   B02,     ___,   ___,   ___,        ___),
    Cause.NO_CREDENTIAL:   (___,  B02,    B02,    B02,   B02,     ___,   ___,   ___,        ___),
    Cause.FORBIDDEN:       (___,  F03,    F03,    F03,   F03,     ___,   ___,   ___,        ___),
})
"""`AGENT[cause][progress]`: what the server gets."""
# fmt: on
