"""The two ends of a request's way: an API that says to each request what is said to no other, and its client.

Both read with h11 and know nothing of what lies between them. What the API was asked and what the client got
is held against the `Asked` that the client wrote: that is where an answer to another request shows.
"""

from collections import deque

import h11

OWN = frozenset((400, 403, 408, 413, 429, 431, 501, 502, 503, 504, 505))
"""What argotun answers in its own name; the API here never uses any of them."""

RAW = b"raw of "

PAUSE = b"|"
"""Where the API pauses in an answer, unless it is to say a number of bytes: behind a head or a chunk."""


def body_of(target: bytes) -> bytes:
    """What the API says to a request, and to no other."""
    return (target + b";") * 9


def sent_with(target: bytes) -> bytes:
    """What a client sends with a request, and with no other."""
    return (target + b"!") * 7


def chunked(body: bytes, sizes: tuple[int, ...], end: bytes = b"0\r\n\r\n") -> bytes:
    out, at = b"", 0
    for size in (*sizes, len(body)):
        part, at = body[at : at + size], at + size
        out += b"%x\r\n%b\r\n|" % (len(part), part) if part else b""
    return out + end


class Asked:
    """A request as its client wrote it, and what has become of it."""

    def __init__(self, number: int, cluster: str, method: str, kind: str, minor: int) -> None:
        self.number = number
        self.method, self.kind, self.cluster, self.minor = method, kind, cluster, minor
        self.target = f"/{cluster}/{number}/{kind}".encode()
        self.sent = sent_with(self.target) if method == "POST" else b""
        self.deliveries = 0  # how often the API was asked
        self.counted = 0  # how often the server called it over
        self.said = b""  # of a body until the connection's end: how much the API has said by its end
        self.cut_well = False  # a watch that the server ended
        self.hostile = False  # its agent lies
        self.raw = sent_with(self.target)  # what the client still has to say after a switch
        self.clean = False  # the API has ended its connection cleanly

    @property
    def wire(self) -> bytes:
        lines = b"%b %b HTTP/1.%d\r\nHost: a\r\n" % (self.method.encode(), self.target, self.minor)
        if self.kind.startswith("up"):
            return lines + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        if self.kind == "badhead":
            return lines + b"no field\r\n\r\n"
        if self.kind == "badbody":
            return (
                lines
                + b"Transfer-Encoding: chunked\r\n\r\n"
                + chunked(self.sent, (5,), b"no chunk").replace(PAUSE, b"")
            )
        if not self.sent:
            return lines + b"\r\n"
        if len(self.target) % 2 and self.minor:
            return (
                lines + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(self.sent, (9, 1)).replace(PAUSE, b"")
            )
        return lines + b"Content-Length: %d\r\n\r\n" % len(self.sent) + self.sent

    @property
    def answer(self) -> bytes:
        """All that the API says to it."""
        name = b"X-Of: " + self.target + b"\r\n"
        body = body_of(self.target)
        sized = b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n|" % (name, len(body))
        parts = b"HTTP/1.1 200 OK\r\n" + name + b"Transfer-Encoding: chunked\r\n\r\n|"
        hint = b"HTTP/1.1 103 Early Hints\r\n%b\r\n" % name
        here = b"HTTP/1.1 302 Found\r\n%bLocation: %b\r\nContent-Length: 0\r\n\r\n"
        switch = b"HTTP/1.1 101 Switching Protocols\r\n%bConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        if self.method == "HEAD":
            return sized
        return {
            "sized": sized + body,
            "last": sized.replace(b"\r\n\r\n|", b"\r\nConnection: close\r\n\r\n|") + body,
            "watch": parts + chunked(body, (9, 20)),
            "trailers": parts + chunked(body, (30,), b"0\r\nX-Sum: 1\r\n\r\n"),
            "hints": hint * 5 + parts + chunked(body, (9,)),
            "close": b"HTTP/1.1 200 OK\r\n" + name + b"\r\n|" + body[:30] + PAUSE + body[30:],
            "none": b"HTTP/1.1 204 No Content\r\n" + name + b"\r\n",
            "here": here % (name, b"https://api" + self.target),
            "up": switch % name + PAUSE + RAW + PAUSE + body,
            "upno": sized + body,
            # The rest is not to be believed.
            "there": here % (name, b"//evil/"),
            "noise": b"SSH-2.0-x\r\n\r\n",
            "badchunk": parts + (chunked(body, (9, 20), b"no chunk") if self.number % 2 else b"no chunk"),
            "hintless": hint * 6 + sized + body,
            "more": sized + body + b"HTTP/1.1 200 OK\r\nX-Of: /stolen\r\nContent-Length: 0\r\n\r\n",
            "switch": switch % b"",
        }.get(self.kind, b"")


class Line:
    """A connection to the API. A `dead` one was closed by the API, and the agent does not know it yet."""

    def __init__(self, asked: dict[bytes, Asked], cluster: str) -> None:
        self.asked, self.cluster = asked, cluster
        self.reader = h11.Connection(h11.SERVER)
        self.now: Asked | None = None
        self.got = self.due = self.spoken = self.raw = b""
        self.served = self.dead = self.closed = self.half = self.whole = False

    # ── the agent says ─────────────────────────────────────────────────────────────────────────

    def hears(self, data: bytes) -> None:
        assert not self.closed, "written to a connection that was given up"
        if self.dead or not data:
            return
        if self.now is not None and self.now.kind == "up":
            assert not self.due.startswith(b"HTTP"), "bytes of the other protocol before the switch"
            self.raw += data
            assert sent_with(self.now.target).startswith(self.raw), "the raw bytes of another client"
            return
        if self.now is not None and self.whole:
            assert not self.due or self.now.kind == "more", "a request before the answer to the one before it"
            self.now = None
        if self.now is None:
            self.reader, self.got, self.whole = h11.Connection(h11.SERVER), b"", False
        self.reader.receive_data(data)
        while (event := self.reader.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Request):
                self._is_asked(event)
            elif isinstance(event, h11.Data):
                self.got += event.data
            elif isinstance(event, h11.EndOfMessage):
                self.whole = True
            assert self.now is not None
            assert self.now.sent.startswith(self.got), "the body of another request"
        if self.whole:
            assert self.now is not None
            assert self.got == self.now.sent, "a part of a request passes for the whole"
            assert not self.reader.trailing_data[0], "more than was asked"

    def _is_asked(self, event: h11.Request) -> None:
        now = self.now = self.asked[event.target]
        assert now.cluster == self.cluster, "asked of another cluster"
        assert now.kind not in ("badhead", "limited", "stranger")
        now.deliveries += 1
        assert now.deliveries <= (1 if now.method == "POST" or now.kind.startswith("up") else 2)
        self.due, self.spoken = now.answer, b""

    def sees_the_end(self) -> None:
        self.half = True

    def is_closed(self) -> None:
        self.closed = True

    # ── the API says ───────────────────────────────────────────────────────────────────────────

    def says(self, size: int) -> bytes:
        """So many bytes more; 0: as far as the next pause."""
        if size:
            data, self.due = self.due[:size].replace(PAUSE, b""), self.due[size:]
        else:
            data, _, self.due = self.due.partition(PAUSE)
        self.due = self.due.lstrip(PAUSE)
        self.spoken += data
        if self.now is not None and self.now.kind == "close":
            self.now.said = self.spoken.partition(b"\r\n\r\n")[2]
        return data


class Client:
    """A client connection as its client sees it; `asked` are the requests that are not answered yet."""

    def __init__(self) -> None:
        self.asked: deque[Asked] = deque()
        self.reader: h11.Connection | None = None
        self.name: bytes | None = None
        self.status = self.interim = 0
        self.got = self.raw = b""
        self.switched: Asked | None = None
        self.ended = False
        self.in_progress: deque[Asked] = deque()  # in the order that the server will count them

    # ── the server says ────────────────────────────────────────────────────────────────────────

    def hears(self, data: bytes) -> None:
        assert not self.ended, "something is said behind the end"
        while data and self.switched is None:
            assert self.asked, "an answer that nobody asked for"
            data = self._parses(data)
        if self.switched is not None:
            self.raw += data
            assert (RAW + body_of(self.switched.target)).startswith(self.raw), "another client's raw bytes"

    def sees_the_end(self) -> None:
        assert not self.ended or self.switched is not None
        self.ended = True
        if self.reader is not None:
            self._parses(b"")
            assert self.reader is None, "an answer ends in its middle"
        if self.switched is not None and self.switched.clean:
            assert self.raw == RAW + body_of(self.switched.target), "the end overtook raw bytes"

    def is_cut_off(self) -> None:
        self.ended = True

    def is_counted(self) -> None:
        if self.in_progress:
            asked = self.in_progress.popleft()
            asked.counted += 1
            assert asked.counted == 1, "a request is over twice"

    # ── what it reads ──────────────────────────────────────────────────────────────────────────

    def _parses(self, data: bytes) -> bytes:
        try:
            return self._reads(data)
        except h11.RemoteProtocolError as error:
            # At the end of the connection too: a part does not pass for the whole.
            raise AssertionError(f"not HTTP: {error}") from error

    def _reads(self, data: bytes) -> bytes:
        """What is left behind the answer in progress."""
        asked = self.asked[0]
        if self.reader is None:
            self.reader = h11.Connection(h11.CLIENT)
            headers = [("Host", "a")]
            if asked.kind.startswith("up"):
                headers += [("Connection", "Upgrade"), ("Upgrade", "websocket")]
            self.reader.send(h11.Request(method=asked.method, target="/", headers=headers))
            if asked.method != "POST":
                self.reader.send(h11.EndOfMessage())
            self.name, self.status, self.interim, self.got = None, 0, 0, b""
        self.reader.receive_data(data)
        while (event := self.reader.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.InformationalResponse):
                self._is_answered(event, asked)
                if event.status_code == 101:
                    assert asked.kind == "up"
                    return self._next(asked, switched=True)
                self.interim += 1
                assert self.interim <= 5
                assert asked.minor
            elif isinstance(event, h11.Response):
                self._is_answered(event, asked)
            elif isinstance(event, h11.Data):
                self.got += event.data
                if self.name is not None:
                    assert asked.hostile or body_of(asked.target).startswith(self.got), "another's answer"
            elif isinstance(event, h11.EndOfMessage):
                self._has_all(asked)
                return self._next(asked)
            elif isinstance(event, h11.ConnectionClosed):
                break
        return b""

    def _is_answered(self, event: h11.InformationalResponse | h11.Response, asked: Asked) -> None:
        headers = dict(event.headers)
        self.status, self.name = event.status_code, headers.get(b"x-of")
        if asked.hostile:
            assert self.name is None or self.name.startswith(f"/{asked.cluster}/".encode())
        elif self.name is None:
            assert self.status in OWN, "not an answer of anybody's"
            assert asked.kind not in ("badhead",) or self.status in (400, 503)
            if b"retry-after" in headers:
                repeated = asked.method != "POST" and asked.deliveries <= 1
                assert not asked.deliveries or repeated, "may be asked again, and the API has it"
        else:
            assert self.name == asked.target, "the answer to another request"
            assert asked.kind not in ("there", "noise", "switch", "hintless") or self.status == 103
            if asked.kind == "here" and self.status == 302:
                assert headers[b"location"] == b"/tunnel/" + asked.cluster.encode() + asked.target

    def _has_all(self, asked: Asked) -> None:
        if asked.hostile:
            return
        if self.name is None:
            assert asked.method == "HEAD" or b"argotun:" in self.got
            return
        assert asked.kind != "badchunk" or asked.method == "HEAD"
        whole = b"" if asked.method == "HEAD" or self.status in (204, 302) else body_of(asked.target)
        if asked.kind == "close" and whole:
            assert asked.clean, "a part passes for the whole"
            whole = asked.said
        assert self.got == whole or asked.cut_well, "a part passes for the whole"

    def _next(self, asked: Asked, switched: bool = False) -> bytes:
        assert self.reader is not None
        rest, self.reader = self.reader.trailing_data[0], None
        self.asked.popleft()
        if switched:
            self.switched = asked
        return bytes(rest)
