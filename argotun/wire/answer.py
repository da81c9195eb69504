"""The one answer of a request, as a state machine without I/O: what a client has of it, and how it may end.

Theory of operation
-------------------

`Answer` is the `Relay` of the direction towards the client, and knows two more things: what was asked, since
only that tells how an answer is to be read (HEAD has no body, a 101 needs an Upgrade), and how far the
request has come while nothing was answered yet (`stage`). Both together are the `Progress`, which is a column
of the tables in `outcomes`.

There are two ways out of a request. Its last byte passes, and the state is IDLE; or `end` is called with a
`Cause`, looks into the table, and moves to IDLE as the table says. In IDLE no cause is any request's, and
every byte is surplus: the server's table says NOTHING to all of them, the agent's what becomes of the stream
and of its connection. So a request is answered once, whoever comes with a second answer, and a byte that
nobody asked for reaches nobody. Its owner carries out what `end` returns.

Neither side trusts the other, nor the API, so both read each answer with this same code.
"""

from collections.abc import Collection

from argotun.errors import HeadError
from argotun.wire.body import FINAL_CHUNK
from argotun.wire.head import UNTIL_CLOSE, RequestHead, ResponseHead, parse_response, rewrite_response
from argotun.wire.location import is_own_path, relative
from argotun.wire.outcomes import DELIVERED, WAITING, Action, Cause, Progress, Table, Verdict
from argotun.wire.relay import BODY, HEAD, RAW, Relay

MAX_INTERIM = 5
"""Interim answers to one request, as Go's client takes them: a hundred thousand fit into one message."""


class Answer(Relay):
    """The answer to the request in progress, one after the other.

    stage    how far the request has come while the state is HEAD: one of Progress below BODY
    status   of the final head, 0 before
    last     the client's connection ends with this answer; its owner says so before the head comes
    kept     the API's connection may carry another request after this answer, as its head says
    prefix   what goes in front of the path of a redirect: where the client sees this API
    """

    __slots__ = (
        "_asked",
        "_chunks",
        "_half",
        "_interim",
        "_origins",
        "_table",
        "kept",
        "last",
        "prefix",
        "stage",
        "status",
    )

    def __init__(self, table: Table, *, chunks: bool = False, origins: Collection[bytes] = ()) -> None:
        """With `chunks` a body until the connection's end goes on in chunks.

        `origins` are the API's own (`scheme://host[:port]`): a redirect to one of them becomes a path.
        """
        super().__init__()
        self._table = table
        self._chunks = chunks
        self._origins = origins
        self._asked: RequestHead | None = None
        self._half: Cause | None = None
        self._interim = 0
        self.stage = WAITING
        self.status = 0
        self.last = False
        self.kept = False
        self.prefix = b""

    def ask(self, request: RequestHead | None, stage: Progress) -> None:
        """A request is in progress; None for one that cannot be read."""
        self.state = HEAD
        self.chunking = False
        self._asked = request
        self._half = None
        self._interim = 0
        self.stage = stage
        self.status = 0
        self.last = False

    @property
    def progress(self) -> Progress:
        """What the client has."""
        if self.state == HEAD:
            return self.stage
        if self.state == BODY:
            body = self.body
            if body.until_close:
                return Progress.UNTIL_CLOSE
            return Progress.BOUNDARY if body.at_boundary else Progress.BODY
        return Progress.RAW if self.state == RAW else Progress.IDLE

    def heads(self, data: bytes) -> tuple[bytes, int]:
        """As `take`, in HEAD: interim heads, the final one, and what comes of the body with it.

        A 101 comes out alone, since SPDY clients drop bytes that arrive in one read with it. Nothing is
        taken while the request WAITS: it cannot be its answer. Raises HeadError on anything that must not
        reach a client.
        """
        stage = self.stage
        if stage == WAITING:
            return b"", 0
        if stage > DELIVERED:
            self.stage = DELIVERED
        asked = self._asked
        out = b""
        at = 0
        while True:
            raw, at = self.head(data, at)
            if raw is None:
                return out, at
            head = parse_response(raw, asked.method if asked is not None else b"")
            if head.status >= 200:
                break
            if head.status == 101:
                self._switch(head)
                return out + rewrite_response(head, False), at
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise HeadError(f"more than {MAX_INTERIM} interim answers")
            # RFC 9110 §15.2: a client of HTTP/1.0 knows none.
            if asked is not None and asked.minor:
                out += rewrite_response(head, False)
        out += self._final(head)
        if self.state == BODY and at < len(data):
            try:
                body, used = self.take(data[at:])
            except HeadError:
                # Its head has not gone on either: the client has nothing of this answer.
                self.state = HEAD
                self.status = 0
                raise
            return out + body, at + used
        return out, at

    def end(self, cause: Cause) -> Verdict:
        """What is to be done now that `cause` has come; the request is over unless that says otherwise."""
        verdict = self._table[cause][self.progress]
        action = verdict.action
        if action == Action.HALF:
            if self._half is not None and self._half != cause:
                verdict = Verdict(Action.COMPLETE)
                self.stop()
            self._half = cause
        elif action == Action.REPEAT or action >= Action.ELSEWHERE:
            # A part of a head is no part of the next answer.
            self.stop()
            self.ask(self._asked, DELIVERED if action == Action.REPEAT else WAITING)
        elif action != Action.NOTHING:
            self.stop()
        return verdict

    @property
    def half(self) -> Cause | None:
        """Which half of a switched connection is over: CLIENT_ENDED or the API's; None for neither."""
        return self._half if self.state == RAW else None

    @property
    def final(self) -> bytes:
        """What completes a body that was chunked here, when the API has said all of it."""
        return FINAL_CHUNK if self.chunking else b""

    def _switch(self, head: ResponseHead) -> None:
        asked = self._asked
        if asked is None or asked.upgrade is None or asked.upgrade != head.upgrade:
            raise HeadError("it switches to a protocol that was not asked for")
        self.status = 101
        self.last = True
        self.switch()

    def _final(self, head: ResponseHead) -> bytes:
        """The final head as it goes on; what follows it is set up."""
        length = head.length
        chunking = False
        if length == UNTIL_CLOSE:
            # A client of HTTP/1.0 knows no chunks (RFC 9112 §6.1).
            chunking = self._chunks and self._asked is not None and self._asked.minor == 1
            self.last = self.last or not chunking
        location = None
        if head.location is not None and 300 <= head.status < 400 and head.status != 304:
            location = self._lead(head.location)
        self.status = head.status
        self.kept = head.keep_alive
        self.follow(length, chunking)
        return rewrite_response(head, self.last, chunking, location)

    def _lead(self, location: bytes) -> bytes:
        """The Location to send on in place of the API's."""
        path = relative(location, self._origins)
        if not is_own_path(path):
            raise HeadError("a redirect that leads elsewhere")
        return self.prefix + path
