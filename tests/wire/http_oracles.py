"""Two other HTTP parsers, h11 and llhttp (httptools), asked how they read a message.

Each function feeds a head with a body and returns a `Reading`, or None when the parser refuses the head;
where the message ends is checked on the way, by feeding its last byte alone.
"""

from dataclasses import dataclass, field

import h11
import httptools

from argotun.wire.head import CHUNKED, UNTIL_CLOSE, RequestHead, ResponseHead

Fields = list[tuple[bytes, bytes]]
# Longer bodies are not fed: that such a message is still going on is enough.
FED_AT_MOST = 4096


@dataclass
class Reading:
    """How a parser read a head, and after how much of the body the message was over (None: not yet)."""

    start: tuple[bytes, ...]
    minor: int
    fields: Fields
    over_after: int | None


def body_for(length: int) -> bytes:
    """A body as `length` frames it; what lasts until the connection ends is five bytes long."""
    if length == CHUNKED:
        return b"3\r\nabc\r\n0\r\n\r\n"
    return b"x" * (5 if length == UNTIL_CLOSE else min(length, FED_AT_MOST))


def ours(head: RequestHead | ResponseHead) -> Reading:
    """Our own reading, in the same terms."""
    lines = head.fields.split(b"\r\n")[:-1]
    fields = [(name.lower(), value) for name, value in (line.split(b":", 1) for line in lines)]
    start = (head.method, head.target) if isinstance(head, RequestHead) else (b"%d" % head.status,)
    over = None if head.length == UNTIL_CLOSE or head.length > FED_AT_MOST else len(body_for(head.length))
    return Reading(start, head.minor, trimmed(fields), over)


def trimmed(fields: Fields) -> Fields:
    """Fields without the whitespace around values; h11 alone writes a transfer coding in lower case."""
    return [
        (name, value.lower() if name == b"transfer-encoding" else value)
        for name, value in ((name.lower(), value.strip(b" \t")) for name, value in fields)
    ]


def h11_request(head: bytes, body: bytes) -> Reading | None:
    """How h11 reads a request as a server."""
    return _h11(h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20), head, body)


def h11_response(head: bytes, body: bytes, method: bytes) -> Reading | None:
    """How h11 reads a response as the client that sent `method` and proposed an upgrade."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    proposal = [("Host", "a"), ("Connection", "upgrade"), ("Upgrade", "websocket")]
    connection.send(h11.Request(method=method, target="/", headers=proposal))
    connection.send(h11.EndOfMessage())
    return _h11(connection, head, body)


def _h11(connection: h11.Connection, head: bytes, body: bytes) -> Reading | None:
    reading: Reading | None = None
    for fed, data in _steps(head, body):
        connection.receive_data(data)
        while True:
            try:
                event = connection.next_event()
            except h11.RemoteProtocolError:
                return None
            if isinstance(event, h11.Request):
                reading = _h11_reading((event.method, event.target), event)
            elif isinstance(event, h11.Response | h11.InformationalResponse):
                reading = _h11_reading((b"%d" % event.status_code,), event)
            if reading is not None and isinstance(event, h11.EndOfMessage | h11.InformationalResponse):
                reading.over_after = fed
                return reading
            if event in (h11.NEED_DATA, h11.PAUSED):
                break
    return reading


def _h11_reading(
    start: tuple[bytes, ...], event: h11.Request | h11.Response | h11.InformationalResponse
) -> Reading:
    return Reading(start, int(event.http_version[-1:]), trimmed(list(event.headers)), None)


@dataclass
class _Events:
    """What llhttp calls back."""

    url: bytes = b""
    fields: Fields = field(default_factory=list)
    complete: bool = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.complete:
            self.fields.append((name, value))

    def on_message_complete(self) -> None:
        self.complete = True


def llhttp_request(head: bytes, body: bytes) -> Reading | None:
    """How llhttp reads a request."""
    events = _Events()
    parser = httptools.HttpRequestParser(events)
    over = _llhttp(parser, events, head, body)
    if over is False:
        return None
    return Reading((parser.get_method(), events.url), _minor(parser), trimmed(events.fields), over)


def llhttp_response(head: bytes, body: bytes) -> Reading | None:
    """How llhttp reads a response; it cannot be told that the request was a HEAD."""
    events = _Events()
    parser = httptools.HttpResponseParser(events)
    over = _llhttp(parser, events, head, body)
    if over is False:
        return None
    return Reading((b"%d" % parser.get_status_code(),), _minor(parser), trimmed(events.fields), over)


def _minor(parser: httptools.HttpRequestParser | httptools.HttpResponseParser) -> int:
    return int(parser.get_http_version()[-1])


def _llhttp(
    parser: httptools.HttpRequestParser | httptools.HttpResponseParser,
    events: _Events,
    head: bytes,
    body: bytes,
) -> int | bool | None:
    """After how much of the body the message was over, None when it was not, False when it was refused."""
    for fed, data in _steps(head, body):
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return fed
        except httptools.HttpParserError:
            return False
        if events.complete:
            return fed
    return None


def _steps(head: bytes, body: bytes) -> list[tuple[int, bytes]]:
    steps = [(0, head)]
    if body:
        steps += [(len(body) - 1, body[:-1])] if len(body) > 1 else []
        steps += [(len(body), body[-1:])]
    return steps
