"""Read one HTTP response head where a single one is due: a proxy's answer, a WebSocket upgrade's."""

import json
import re
import time
from typing import NamedTuple

from gevent.socket import socket

from argotun.errors import HandshakeError, HeadError
from argotun.transport.explain import explain
from argotun.wire.head import find_head_end, parse_response

MAX_REPLY = 16 * 1024
"""Bytes of such a head at most: a 101 has 200, a proxy's refusal with cookies some thousand."""

MAX_SAID = 200
"""Characters of the other side's own words that go into a message of ours."""

_PROTOCOL = b"HTTP/1."
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])[ \r]")

# The words of a refusal are a courtesy: seconds that the rest of its body may take, and bytes of it.
_BODY_WAIT = 1.0
_MAX_BODY = 4096


class Reply(NamedTuple):
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
    data = b""
    seen = 0
    while True:
        try:
            end = find_head_end(data, seen)
            if end > 0:
                reply = _parse(data[:end], data[end:])
                if reply.status == 101 or reply.status >= 200:
                    return reply
                data, seen = reply.rest, 0
                continue
        except HeadError as error:
            raise _not_http(who, str(error), data) from None
        # Another protocol would never send the blank line that ends a head.
        if len(data) > MAX_REPLY or not (data.startswith(_PROTOCOL) or _PROTOCOL.startswith(data)):
            raise _not_http(who, "a head that is too long" if len(data) > MAX_REPLY else "", data)
        seen = len(data)
        chunk = _recv(sock, deadline, who)
        if not chunk:
            where = f"in the middle of its answer: {quote(data)}" if data else "without an answer"
            raise HandshakeError(f"{who} closed the connection {where}")
        data += chunk


def read_words(sock: socket, reply: Reply, deadline: float) -> str:
    """The words of a refusal's body, MAX_SAID characters at most; "" where it has none for people."""
    return _words(read_body(sock, reply, deadline))


def read_body(sock: socket, reply: Reply, deadline: float) -> bytes:
    """The beginning of a body that says how long it is, as far as it comes soon; 4096 bytes at most."""
    length = reply.fields.get("content-length", "")
    wanted = min(int(length), _MAX_BODY) if re.fullmatch("[0-9]{1,9}", length) else 0
    body = reply.rest
    deadline = min(deadline, time.monotonic() + _BODY_WAIT)
    try:
        while len(body) < wanted and (chunk := _recv(sock, deadline, "")):
            body += chunk
    except HandshakeError:
        pass
    return body[:_MAX_BODY]


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


def _not_http(who: str, why: str, data: bytes) -> HandshakeError:
    """The sentence for bytes that are no head; with the status where they have a status line."""
    line = _STATUS_LINE.match(data)
    why = f" ({why})" if why else ""
    return HandshakeError(
        f"{who} did not answer in HTTP/1.1{why}: {quote(data)}", int(line[1]) if line else None
    )


def _parse(raw: bytes, rest: bytes) -> Reply:
    head = parse_response(raw, b"GET")
    fields: dict[str, str] = {}
    for line in head.fields.decode("latin-1").split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return Reply(head.status, printable(head.reason.decode("latin-1")), fields, raw, rest)


def _words(body: bytes) -> str:
    """The message of a Kubernetes Status, or a plain text that is not a page."""
    try:
        status = json.loads(body)
    except (ValueError, RecursionError):
        text = body.decode("utf-8", "replace").strip()
        return "" if text.startswith("<") else printable(text)
    message = status.get("message") if isinstance(status, dict) else None
    return printable(message) if isinstance(message, str) else ""
