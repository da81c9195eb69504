"""What either side of version 2 must not send, as whole WebSocket messages, and the close code it earns.

Stream 1 is open when they are sent, stream 4711 never was.
"""

from struct import pack

import pytest

from tests.v2_peers import (
    CLOSE,
    CONNECT,
    CONNECTED,
    DATA,
    END,
    ERROR,
    GOAWAY,
    HELLO,
    PING,
    PONG,
    WINDOW,
    frame,
    hello,
)

NEVER = 4711


def _window(credit: int) -> bytes:
    return credit.to_bytes(4, "big")


MESSAGES: dict[str, bytes] = {
    "an empty message": b"",
    "a message that ends in a frame's header": b"\x03\0\0\0\1\0\0\0",
    "a message that ends in a frame's payload": frame(DATA, 1, b"abc")[:-1],
    "a whole frame and the beginning of another": frame(PING) + b"\x06",
    "a length of 4 GiB": pack(">BII", DATA, 1, 0xFFFFFFFF) + b"x",
    "type 0": frame(0),
    "type 12": frame(12, 1),
    "type 255": frame(255, 1),
    "a version 1 frame": pack(">BI", PING, 0),
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    **{
        f"{name} on stream 0": frame(kind, 0, payload)
        for name, kind, payload in (
            ("CONNECT", CONNECT, b""),
            ("CONNECTED", CONNECTED, b""),
            ("DATA", DATA, b"x"),
            ("ERROR", ERROR, b"x"),
            ("CLOSE", CLOSE, b""),
            ("WINDOW", WINDOW, _window(1)),
            ("END", END, b""),
        )
    },
    **{
        f"{name} on stream 1": frame(kind, 1, payload)
        for name, kind, payload in (
            ("PING", PING, b""),
            ("PONG", PONG, b""),
            ("HELLO", HELLO, b"{}"),
            ("GOAWAY", GOAWAY, b""),
        )
    },
    "a second HELLO": hello(),
    **{
        f"{name} for a stream that never was": frame(kind, NEVER, payload)
        for name, kind, payload in (
            ("CONNECTED", CONNECTED, b""),
            ("DATA", DATA, b"x"),
            ("ERROR", ERROR, b"x"),
            ("CLOSE", CLOSE, b""),
            ("END", END, b""),
            ("WINDOW", WINDOW, _window(1)),
        )
    },
    "a credit of 0": frame(WINDOW, 1, _window(0)),
    "a credit that overflows": frame(WINDOW, 1, _window(0x7FFFFFFF)),
    "a credit with the highest bit": frame(WINDOW, 1, _window(0xFFFFFFFF)),
    "a credit of three bytes": frame(WINDOW, 1, b"\0\0\1"),
    "a credit of eight bytes": frame(WINDOW, 1, bytes(8)),
}

FIRST_WORDS: dict[str, bytes] = {
    "PING before HELLO": frame(PING),
    "CONNECT before HELLO": frame(CONNECT, 1),
    "GOAWAY before HELLO": frame(GOAWAY),
    "nothing": frame(HELLO),
    "no JSON": frame(HELLO, 0, b"hello"),
    "not UTF-8": frame(HELLO, 0, b'{"target":"\xff"}'),
    "a list": frame(HELLO, 0, b"[1]"),
    "a deep list": frame(HELLO, 0, b"[" * 16000),
    "a number that is none": frame(HELLO, 0, b'{"window":"much"}'),
    "a window of 0": hello(window=0),
    "a negative window": hello(window=-1),
    "a window over the bound": hello(window=1 << 31),
    "a window that is a truth": hello(window=True),
    "a target with a line end": hello(target="x\r\nX: y"),
    "a target of a megabyte": hello(target="x" * 20000),
}


def each(table: dict[str, bytes]) -> pytest.MarkDecorator:
    """Parametrize `message` with a table."""
    return pytest.mark.parametrize("message", table.values(), ids=list(table))
