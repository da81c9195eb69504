"""A collector of traces: OTLP over HTTP and over gRPC at one port, as much of both as exporters use.

with Collector() as collector:
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
    …
    span = collector.wait("argotun-server")
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from gevent.server import StreamServer
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.rig import Peer, Script, until

HTTP_2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client of HTTP/2 says first (RFC 9113 §3.4)."""

TAKEN = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Seen:
    """A span that has arrived; ids in hex, `parent` "" for a root, `links` as (trace, id)."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    kind: int
    start: int
    end: int
    failed: bool
    why: str
    state: str
    facts: dict[str, Any] = field(default_factory=dict)
    links: list[tuple[str, str]] = field(default_factory=list)


class Collector:
    """Listens while the `with` lasts; `script` answers HTTP/1.1 connections in place of a good collector."""

    def __init__(self, script: Script | None = None) -> None:
        self.spans: list[Seen] = []
        self.heads: list[bytes] = []
        self.raw = b""
        self._script = script or self._take
        self._server = StreamServer(("127.0.0.1", 0), self._serve)

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://{self.address}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(timeout=0)

    def wait(self, service: str, wanted: Callable[[Seen], bool] = lambda span: True) -> Seen:
        """The first span of a service that is wanted."""
        until(lambda: self.of(service, wanted), f"a span of {service}", explain=lambda: self.spans)
        return self.of(service, wanted)[0]

    def of(self, service: str, wanted: Callable[[Seen], bool] = lambda span: True) -> list[Seen]:
        """What has arrived of a service so far."""
        return [span for span in self.spans if span.service == service and wanted(span)]

    def _serve(self, sock: Any, _address: Any) -> None:
        peer = Peer(sock, patience=None)
        try:
            peer.buffer = first = sock.recv(65536)
            if first[:3] == HTTP_2[:3]:
                self._serve_grpc(sock, first)
            else:
                self._script(peer)
        except (EOFError, OSError):
            # The exporter has closed.
            pass
        finally:
            sock.close()

    def _take(self, peer: Peer) -> None:
        while True:
            head = peer.head()
            self.heads.append(head)
            size = next(
                int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"
            )
            self._read(peer.read(size))
            peer.send(TAKEN)

    def _serve_grpc(self, sock: Any, data: bytes) -> None:
        """Unary calls, whatever their method is."""
        http = H2Connection(H2Configuration(client_side=False))
        http.initiate_connection()
        bodies: dict[int, bytes] = {}
        while data:
            for event in http.receive_data(data):
                if isinstance(event, DataReceived):
                    bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                    http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, StreamEnded):
                    # A byte that says whether it is compressed, and four with its length.
                    self._read(bodies.pop(event.stream_id)[5:])
                    http.send_headers(
                        event.stream_id, [(":status", "200"), ("content-type", "application/grpc")]
                    )
                    http.send_data(event.stream_id, bytes(5))
                    http.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)
            sock.sendall(http.data_to_send())
            data = sock.recv(65536)

    def _read(self, message: bytes) -> None:
        self.raw += message
        for resource in ExportTraceServiceRequest.FromString(message).resource_spans:
            service = _facts(resource.resource.attributes).get("service.name", "")
            for scope in resource.scope_spans:
                self.spans += [_seen(service, span) for span in scope.spans]


def _seen(service: str, span: Any) -> Seen:
    return Seen(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.kind,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code == span.status.STATUS_CODE_ERROR,
        span.status.message,
        span.trace_state,
        _facts(span.attributes),
        [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
    )


def _facts(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in attributes}
