"""A request as a thing: its facts, the same on server and agent, for whoever looks at it when it is over.

Each fact is filled in at one place as the request goes by. Access log and metrics read the record at its end;
nothing here is kept once they have.
"""

from collections.abc import Mapping
from dataclasses import dataclass
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


# One is made, and written to, with each request: slots cost it least.
@dataclass(slots=True, eq=False)
class Request:
    """The facts of one request.

    began, ended   monotonic seconds: the first byte of the head, and the last one of the answer
    cluster     id of the cluster that it is for; "" for one that could not be read, or is for none
    method, target   as bytes; the target without `/tunnel/{cluster}`
    audit_id    of the API's audit log; b"" for none
    bytes_in, bytes_out   towards the cluster and from it, heads included
    counted_in, counted_out   the part of these that metrics have already
    caller      name of who asks, as the server knows it; "" where it does not
    stream      number of the tunnel's stream, 0 while it has none
    via         id of the replica whose agent has it; "" for one of this server's own
    status      of the answer, 0 before there is one, 499 where the client left first
    error       why argotun answered, or aborted, in the API's place; "" where the API did
    stalls      how often the receiving socket could take no more
    span        its span, where requests are traced
    """

    began: float
    cluster: str = ""
    method: bytes = b""
    target: bytes = b""
    audit_id: bytes = b""
    bytes_in: int = 0
    bytes_out: int = 0
    counted_in: int = 0
    counted_out: int = 0
    caller: str = ""
    stream: int = 0
    via: str = ""
    status: int = 0
    error: str = ""
    stalls: int = 0
    span: Span | None = None
    ended: float = 0.0

    @property
    def seconds(self) -> float:
        """From the first byte of the head to the end."""
        return self.ended - self.began
