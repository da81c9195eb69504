"""Read one HTTP response head where a single one is due: a proxy's answer, a WebSocket upgrade's."""

import json
import re
import time
from dataclasses import dataclass

from gevent.socket import socket

from argotun.errors import HandshakeError
from argotun.transport.explain import explain

MAX_REPLY = 16 * 1024
"""Bytes of such a head at most: a 101 has 200, a proxy's refusal with cookies some thousand."""

MAX_SAID = 200
"""Characters of the other side's own words that go into a message of ours."""

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n")
_FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*\r\n")

_PROTOCOL = b"HTTP/1."

# How long the rest of a refusal's body may take, s: its words are a courtesy.
_BODY_WAIT = 1.0
_MAX_BODY = 4096


@dataclass(frozen=True, slots=True)
class Reply:
    """A response head: `raw` as it came, `rest` what came behind it, `fields` by lower-case name."""

    status: int
    reason: str
    fields: dict[str, str]
    raw: bytes
    rest: bytes


def read_reply(sock: socket, deadline: float, who: str) -> Reply:
    """Read a final response head, or a 101, from `sock` until `deadline` (time.monotonic() seconds).

    Interim answers before it (other 1xx, RFC 9110 §15.2) are skipped.

    Raises HandshakeError, in words about `who`, when the other side is silent, leaves, sends
    something else than an HTTP/1.1 head, or more than MAX_REPLY bytes of one.
    """
    data = bytearray()
    while True:
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            reply = _parse(bytes(data[: end + 4]), bytes(data[end + 4 :]), who)
            if reply.status == 101 or reply.status >= 200:
                return reply
            data = bytearray(reply.rest)
            continue
        # Some parsers end a head at bare line feeds: behind one the bytes would mean two things.
        if len(data) > MAX_REPLY or b"\n\n" in data or not _may_begin(data):
            raise HandshakeError(f"{who} did not answer in HTTP/1.1: {quote(bytes(data))}")
        chunk = _recv(sock, deadline, who)
        if not chunk:
            what = f"in the middle of its answer: {quote(bytes(data))}" if data else "without an answer"
            raise HandshakeError(f"{who} closed the connection {what}")
        data += chunk


def read_words(sock: socket, reply: Reply, deadline: float) -> str:
    """What a refusal's body says, in at most MAX_SAID characters; "" when it says nothing readable."""
    length = reply.fields.get("content-length", "")
    wanted = min(int(length), _MAX_BODY) if re.fullmatch("[0-9]{1,9}", length) else 0
    body = reply.rest
    deadline = min(deadline, time.monotonic() + _BODY_WAIT)
    try:
        while len(body) < wanted and (chunk := _recv(sock, deadline, "")):
            body += chunk
    except HandshakeError:
        pass
    return _words(body[:_MAX_BODY])


def quote(data: bytes) -> str:
    """Show the beginning of unexpected bytes so that a log line stays one readable line."""
    text = data[:40].decode("latin-1")
    return repr(text) + ("…" if len(data) > 40 else "")


def printable(text: str) -> str:
    """Cut the other side's words to MAX_SAID characters of one line, without control characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= MAX_SAID else line[: MAX_SAID - 1] + "…"


def _recv(sock: socket, deadline: float, who: str) -> bytes:
    left = deadline - time.monotonic()
    if left <= 0:
        raise HandshakeError(f"{who} did not answer in time")
    try:
        sock.settimeout(left)
        data: bytes = sock.recv(MAX_REPLY)
    except TimeoutError:
        raise HandshakeError(f"{who} did not answer in time") from None
    except (OSError, ValueError) as error:
        raise HandshakeError(f"{who} did not answer: {explain(error)}") from error
    finally:
        sock.settimeout(None)
    return data


def _may_begin(data: bytearray) -> bool:
    """Whether these bytes can be the beginning of an HTTP/1.x response."""
    return data.startswith(_PROTOCOL) or _PROTOCOL.startswith(data)


def _parse(head: bytes, rest: bytes, who: str) -> Reply:
    line = _STATUS_LINE.match(head)
    if line is None:
        raise HandshakeError(f"{who} did not answer in HTTP/1.1: {quote(head)}")
    fields: dict[str, str] = {}
    position = line.end()
    while position < len(head) - 2:
        field = _FIELD_LINE.match(head, position)
        if field is None:
            raise HandshakeError(f"{who} sent a malformed header line: {quote(head[position:])}")
        name, value = field[1].decode("latin-1").lower(), field[2].decode("latin-1")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
        position = field.end()
    return Reply(int(line[1]), printable((line[2] or b"").decode("latin-1")), fields, head, rest)


def _words(body: bytes) -> str:
    """The message of a Kubernetes Status, or a plain text that is not a page."""
    try:
        status = json.loads(body)
    except ValueError:
        text = body.decode("utf-8", "replace").strip()
        return "" if text.startswith("<") else printable(text)
    message = status.get("message") if isinstance(status, dict) else None
    return printable(message) if isinstance(message, str) else ""
