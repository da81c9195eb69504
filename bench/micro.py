"""What one call of the hot pure functions costs: `python -m bench.micro [WORD]`, medians in µs, no network.

WORD keeps the lines that contain it. The figures are for comparing two versions of the code on one machine.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median
from timeit import Timer

from websockets.frames import apply_mask  # type: ignore[attr-defined]

from argotun.errors import ArgotunError
from argotun.wire import frames, head
from argotun.wire.body import ChunkedBody, chunk
from argotun.wire.hello import Hello
from argotun.wire.mux import Multiplexer
from argotun.wire.streams import DISCARD, Discard, Stream
from argotun.wire.websocket import FrameReader

REPEATS = 9
REPEAT_SECONDS = 0.02  # long enough that the clock and the loop do not count
KIB = 1024

SMALL_REQUEST = b"GET /small HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"
CLIENT_GO_REQUEST = (
    b"GET /api/v1/namespaces/shop/configmaps?limit=500&resourceVersion=0 HTTP/1.1\r\n"
    b"Host: argotun-server.argotun.svc:8080\r\n"
    b"User-Agent: argocd-application-controller/v3.5.6 (linux/amd64) kubernetes/$Format\r\n"
    b"Accept: application/json, */*\r\n"
    b"Authorization: Bearer unused\r\n"
    b"Kubectl-Command: kubectl get\r\n"
    b"Accept-Encoding: gzip\r\n\r\n"
)
UPGRADE_REQUEST = (
    b"GET /api/v1/namespaces/shop/pods/web-0/exec?command=sh&stdin=true&stdout=true&tty=true HTTP/1.1\r\n"
    b"Host: argotun-server.argotun.svc:8080\r\n"
    b"User-Agent: kubectl/v1.36.3 (linux/amd64) kubernetes/abcdef0\r\n"
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n"
)
API_RESPONSE = (
    b"HTTP/1.1 200 OK\r\n"
    b"Audit-Id: 0b9bc6a1-6f4f-4a9c-9a8f-0f3b0c6a2a11\r\n"
    b"Cache-Control: no-cache, private\r\n"
    b"Content-Encoding: gzip\r\n"
    b"Content-Type: application/json\r\n"
    b"Vary: Accept-Encoding\r\n"
    b"X-Kubernetes-Pf-Flowschema-Uid: 6b1c2f58-2b5a-4b0e-8a40-0d9a0b8e2d3c\r\n"
    b"X-Kubernetes-Pf-Prioritylevel-Uid: 1f0e6d3a-52aa-4b61-bc5b-8b2f0a3c7d9e\r\n"
    b"Date: Sat, 21 Nov 2026 11:00:00 GMT\r\n"
    b"Content-Length: 1024\r\n\r\n"
)
INJECTED = b"Authorization: Bearer " + b"t" * 900 + b"\r\n"


@dataclass(frozen=True)
class Case:
    """One line of the output: `call` does the work `units` times."""

    name: str
    call: Callable[[], object]
    units: int = 1


def cases() -> Iterator[Case]:
    """All lines, in the order in which a request passes through."""
    yield from _heads()
    yield from _bodies()
    yield from _websocket()
    yield from _multiplexer()


def measure(case: Case) -> float:
    """Median of the repeats, µs for one unit."""
    timer = Timer(case.call)
    calls = 1
    while (taken := timer.timeit(calls)) < REPEAT_SECONDS:
        calls = max(2 * calls, int(calls * REPEAT_SECONDS / max(taken, 1e-6)))
    return median(timer.repeat(REPEATS, calls)) / calls / case.units * 1e6


def main() -> int:
    """Print every case that the word on the command line selects."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [case for case in cases() if word in case.name]
    if not chosen:
        print(f"no case contains {word!r}", file=sys.stderr)
        return 1
    width = max(len(case.name) for case in chosen)
    for case in chosen:
        print(f"{case.name:{width}}  {measure(case):8.2f} µs", flush=True)
    return 0


def _heads() -> Iterator[Case]:
    for name, data in (
        ("wrk's GET", SMALL_REQUEST),
        ("client-go GET", CLIENT_GO_REQUEST),
        ("kubectl exec", UPGRADE_REQUEST),
    ):
        parsed = head.parse_request(data)
        onward = partial(head.rewrite_request, parsed, b"/small", b"Audit-ID: 0123456789abcdef\r\n")
        injected = partial(head.rewrite_request, parsed, parsed.target, INJECTED, b"kubernetes:443")
        yield Case(f"find_head_end: {name}", partial(head.find_head_end, data))
        yield Case(f"parse_request: {name}", partial(head.parse_request, data))
        yield Case(f"rewrite_request on the server: {name}", onward)
        yield Case(f"rewrite_request on the agent: {name}", injected)
    response = head.parse_response(API_RESPONSE, b"GET")
    yield Case("parse_response: kube-apiserver", partial(head.parse_response, API_RESPONSE, b"GET"))
    yield Case("rewrite_response: kube-apiserver", partial(head.rewrite_response, response, close=False))


def _bodies() -> Iterator[Case]:
    for size in (4 * KIB, 64 * KIB):
        piece = chunk(bytes(size))
        yield Case(f"ChunkedBody.feed: {size // KIB} KiB chunk", partial(ChunkedBody().feed, piece))


def _websocket() -> Iterator[Case]:
    for size in (KIB, 64 * KIB):
        payload, mask = bytes(size), b"\x01\x02\x03\x04"
        length = b"\xfe" + size.to_bytes(2, "big") if size < 64 * KIB else b"\xff" + size.to_bytes(8, "big")
        frame = b"\x82" + length + mask + apply_mask(payload, mask)
        reader = FrameReader(require_mask=True, max_message=frames.V2.max_message)

        def read(reader: FrameReader = reader, frame: bytes = frame) -> bytes | None:
            reader.feed(frame)
            return reader.next_message()

        yield Case(f"FrameReader: masked message of {size // KIB} KiB", read)


class _Answers(Discard):
    """The agent's end of a stream: gives the credit back and answers each request at once."""

    def __init__(self, mux: Multiplexer, stream: Stream, answer: bytes) -> None:
        self._mux, self._stream, self._answer = mux, stream, answer

    def on_data(self, payload: bytes) -> None:
        self._mux.consumed(self._stream, len(payload), 0.0)
        self._mux.send(self._stream, self._answer)


class _Reads(Discard):
    """The server's end of a stream: takes what comes."""

    def __init__(self, mux: Multiplexer) -> None:
        self._mux = mux
        self.stream: Stream | None = None
        self.received = 0

    def on_data(self, payload: bytes) -> None:
        assert self.stream is not None
        self.received += len(payload)
        self._mux.consumed(self.stream, len(payload), 0.0)


class _Pair:
    """A server's and an agent's multiplexer with open streams, joined back to back."""

    def __init__(self, streams: int, answer: bytes) -> None:
        self.server = Multiplexer(frames.V2, opener=True, ours=Hello(), budget=64 << 20)
        self.agent = Multiplexer(frames.V2, opener=False, ours=Hello(), budget=64 << 20)
        self._answer = answer
        self.agent.accept = self._accept
        self.exchange()
        self.streams: list[Stream] = []
        self.readers: list[_Reads] = []
        for _ in range(streams):
            reads = _Reads(self.server)
            reads.stream = self.server.open(reads)
            self.readers.append(reads)
            self.streams.append(reads.stream)
        self.exchange()

    def exchange(self) -> None:
        """Carry messages both ways until nobody has anything to say."""
        while self.server.waiting or self.agent.waiting:
            for sender, receiver in ((self.server, self.agent), (self.agent, self.server)):
                for parts in sender.collect():
                    list(receiver.steps(b"".join(parts)))

    def ask(self, request: bytes) -> None:
        """One request on each stream, and its answer."""
        for stream in self.streams:
            self.server.send(stream, request)
        self.exchange()

    def _accept(self, stream: Stream, target: str) -> None:
        stream.sink = _Answers(self.agent, stream, self._answer)
        self.agent.connected(stream)


def _multiplexer() -> Iterator[Case]:
    answer = API_RESPONSE + bytes(KIB)
    for streams in (1, 16, 64):
        pair = _Pair(streams, answer)
        yield Case(
            f"two Multiplexers: request and answer, {streams} streams at once",
            partial(pair.ask, CLIENT_GO_REQUEST),
            units=streams,
        )
    bulk = _Pair(1, b"")
    pieces = 8
    yield Case(
        "two Multiplexers: 32 KiB of a large body",
        partial(_send, bulk, bytes(frames.CHUNK), pieces),
        units=pieces,
    )

    def open_and_close() -> None:
        pair.server.close(pair.server.open(DISCARD))
        pair.exchange()

    pair = _Pair(0, answer)
    yield Case("two Multiplexers: a stream opened and closed", open_and_close)

    refused = b"\xff" * 9

    def refuse() -> None:
        try:
            list(pair.agent.steps(refused))
        except ArgotunError:
            pass

    yield Case("Multiplexer.receive: a bad frame", refuse)


def _send(pair: _Pair, piece: bytes, times: int) -> None:
    stream = pair.streams[0]
    for _ in range(times):
        pair.server.send(stream, piece)
    pair.exchange()


if __name__ == "__main__":
    raise SystemExit(main())
