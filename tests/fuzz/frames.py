"""A tunnel in the middle of its work, and a peer's messages: frames, streams and their credit."""

from argotun.errors import ProtocolError
from argotun.wire.frames import V1, V2
from tests.fuzz.steps import Steps
from tests.wire.mux_peers import Side, joined, take_in
from tests.wire.test_mux_fuzz import FATAL_1, FATAL_2, busy, conversation, survives

SIDES = [(version, role) for version in (1, 2) for role in ("server", "agent")]


def check(data: bytes) -> None:
    """The first byte chooses the side; each message has its length, two bytes, before it."""
    version, role = SIDES[data[0] % 4] if data else SIDES[3]
    messages = cut(data[1:])
    side = busy(version, role)
    with Steps(len(data)):
        whole = hear(side, messages)
    if version == 2 and not whole[0]:
        # A batch says what its frames say one by one.
        single = [V2.pack(*frame) for message in messages for frame in V2.split(message)]
        assert hear(busy(version, role), single) == whole
    survives(busy(version, role), messages or [b""])


def seeds() -> list[bytes]:
    """A sound conversation with each side, and each frame that ends a tunnel."""
    found = []
    for at, (version, role) in enumerate(SIDES):
        found.append(bytes([at]) + packed(conversation(version, role)))
        bad = [message for message in (FATAL_1, FATAL_2)[version - 1].values() if len(message) < 6000]
        found += [bytes([at]) + packed([message]) for message in bad]
    return found


def packed(messages: list[bytes]) -> bytes:
    """Messages, each behind its length."""
    return b"".join(len(message).to_bytes(2, "big") + message for message in messages)


def cut(data: bytes) -> list[bytes]:
    """The messages in `data`; the last one may be short."""
    messages = []
    while len(data) >= 2:
        size = int.from_bytes(data[:2], "big")
        messages.append(data[2 : 2 + size])
        data = data[2 + size :]
    return messages


def hear(side: Side, messages: list[bytes]) -> tuple[str, bytes, list[int]]:
    """Why the tunnel ended ("": it lives), all that it has to say then, and the streams that are left."""
    why = ""
    try:
        for message in messages:
            take_in(side.mux, message)
    except ProtocolError as error:
        why = str(error)
        assert why.isprintable()
    said = b"".join(b"".join(joined(side.mux.collect())) for _ in range(4))
    assert side.profile in (V1, V2)
    return why, said, sorted(side.mux.streams)
