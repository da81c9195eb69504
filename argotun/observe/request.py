"""A request as a thing: its facts, the same on server and agent, for whoever looks at it when it is over.

Each fact is filled in at one place as the request goes by. Access log and metrics read the record at its end;
nothing here is kept once they have.
"""

from collections.abc import Mapping
from typing import Protocol

Fact = str | int
"""What a span says of its request, beside its times."""


class Span(Protocol):
    """A span that has begun (`tracing`)."""

    @property
    def fields(self) -> bytes:
        """`traceparent` and `tracestate` for the next hop, as lines of a head."""

    def end(self, at: int, facts: Mapping[str, Fact], failed: bool, why: str) -> None:
        """It ends `at` Unix nanoseconds."""


class Request:
    """The facts of one request.

    cluster     id of the cluster that it is for; "" for one that could not be read, or is for none
    caller      name of who asks, as the server knows it; "" where it does not
    method, target   as bytes; the target without `/tunnel/{cluster}`
    audit_id    of the API's audit log; b"" for none
    stream      number of the tunnel's stream, 0 while it has none
    via         id of the replica whose agent has it; "" for one of this server's own
    status      of the answer, 0 before there is one, 499 where the client left first
    error       why argotun answered, or aborted, in the API's place; "" where the API did
    bytes_in, bytes_out   towards the cluster and from it, heads included
    counted_in, counted_out   the part of these that metrics have already
    stalls      how often the receiving socket could take no more
    span        its span, where requests are traced

    Times are monotonic seconds, 0.0 for a step that was not reached: `began` with the first byte of the head,
    `admitted` to a session, `sent` on, `connected` to the API, `answered` with a final head, `ended`.
    """

    # One is made, and written to, with each request: slots cost it least.
    __slots__ = (
        "admitted",
        "answered",
        "audit_id",
        "began",
        "bytes_in",
        "bytes_out",
        "caller",
        "cluster",
        "connected",
        "counted_in",
        "counted_out",
        "ended",
        "error",
        "method",
        "sent",
        "span",
        "stalls",
        "status",
        "stream",
        "target",
        "via",
    )

    def __init__(
        self,
        began: float,
        cluster: str = "",
        method: bytes = b"",
        target: bytes = b"",
        audit_id: bytes = b"",
        size: int = 0,
    ) -> None:
        """`size` is that of the request's head in bytes."""
        self.began = began
        self.cluster = cluster
        self.method = method
        self.target = target
        self.audit_id = audit_id
        self.bytes_in = size
        self.caller = self.error = self.via = ""
        self.span: Span | None = None
        self.stream = self.status = self.stalls = 0
        self.bytes_out = self.counted_in = self.counted_out = 0
        self.admitted = self.sent = self.connected = self.answered = self.ended = 0.0

    @property
    def seconds(self) -> float:
        """From the first byte of the head to the end."""
        return self.ended - self.began
