"""Two sides of a tunnel for the tests of the multiplexer: sinks that remember, frames by name."""

from argotun.wire import frames
from argotun.wire.frames import V1, V2, Profile
from argotun.wire.hello import Hello
from argotun.wire.mux import Multiplexer
from argotun.wire.outbox import BATCH
from argotun.wire.reasons import NONE
from argotun.wire.streams import STATES, Stream
from tests.examples import examples

PROFILES = {1: V1, 2: V2}
QUICK = examples(60)
"""For every property here."""

KINDS = {name: kind for kind, name in frames.NAMES.items()}


def take_in(mux: Multiplexer, message: bytes) -> None:
    """Have a multiplexer read a whole message in one go."""
    for _ in mux.steps(message):
        pass


class Ear:
    """A sink that remembers its calls as (name, argument), and fails when called after the end."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object]] = []
        self.told_over = False
        self.reason = NONE

    def _hear(self, name: str, argument: object = None) -> None:
        assert not self.told_over, f"{name} after {self.calls[-1]}"
        self.calls.append((name, argument))

    def on_connected(self) -> None:
        self._hear("connected")

    def on_data(self, payload: bytes) -> None:
        self._hear("data", bytes(payload))

    def on_end(self) -> None:
        self._hear("end")

    def on_over(self, reason: int, text: str) -> None:
        self._hear("over", text if reason else None)
        self.reason = reason
        self.told_over = True

    def on_lost(self, reason: str) -> None:
        self._hear("lost", reason)
        self.told_over = True

    def go_on(self) -> None:
        """The waiter of a stream, if a test leaves it there."""
        self.calls.append(("writable", None))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    @property
    def data(self) -> bytes:
        return b"".join(argument for name, argument in self.calls if name == "data")  # type: ignore[misc]


class Side:
    """One multiplexer with what it was told and the streams that its peer opened."""

    def __init__(self, version: int, role: str, ours: Hello | None = None, **options: int) -> None:
        self.profile: Profile = PROFILES[version]
        self.mux = Multiplexer(
            self.profile, opener=role == "server", ours=ours or Hello(), **{"budget": 64 << 20, **options}
        )
        self.mux.accept = self._accept
        self.mux.on_hello = lambda said: self.told.append(("hello", said))
        self.mux.on_goaway = lambda reason, text: self.told.append(("goaway", text))
        self.mux.on_pong = lambda payload: self.told.append(("pong", payload))
        self.told: list[tuple[str, object]] = []
        self.accepted: list[tuple[Stream, str]] = []

    def _accept(self, stream: Stream, target: str) -> None:
        stream.sink = Ear()
        self.accepted.append((stream, target))

    def hear(self, name: str, stream: int = 0, payload: bytes = b"") -> None:
        """Receive one frame, given by its name."""
        take_in(self.mux, self.profile.pack(KINDS[name], stream, payload))

    def say(self, limit: int = BATCH) -> list[tuple[str, int, bytes]]:
        """What this side sends next, as (name, stream, payload)."""
        return read(self.profile, joined(self.mux.collect(limit)))

    def state(self, stream: int) -> str:
        known = self.mux.streams.get(stream)
        return STATES[known.state] if known else "CLOSED"


def started(version: int, role: str, theirs: Hello | None = None, **options: int) -> Side:
    """A side whose peer has said HELLO and that has said its own."""
    side = Side(version, role, **options)
    if version == 2:
        side.hear("HELLO", 0, (theirs or Hello()).encode())
    side.mux.collect()
    return side


def in_state(version: int, role: str, state: str) -> tuple[Side, Stream]:
    """A real multiplexer with a stream that frames and calls brought into `state`."""
    side = started(version, role)
    mux = side.mux
    if role == "server":
        stream = mux.open(Ear(), "api:443")
        if state not in ("OPENING", "OPENING_LOCAL"):
            side.hear("CONNECTED", stream.id)
    else:
        side.hear("CONNECT", 1, b"api:443")
        stream, _ = side.accepted[0]
        if state not in ("OPENING", "OPENING_REMOTE"):
            mux.connected(stream)
    if state in ("OPENING_LOCAL", "LOCAL_ENDED"):
        mux.end(stream)
    if state in ("OPENING_REMOTE", "REMOTE_ENDED"):
        side.hear("END", stream.id)
    if state == "CLOSED":
        mux.reset(stream)
    mux.collect()
    assert side.state(stream.id) == state
    if isinstance(stream.sink, Ear):
        stream.sink.calls.clear()
    return side, stream


def joined(messages: list[list[bytes | memoryview]]) -> list[bytes]:
    return [b"".join(parts) for parts in messages]


def read(profile: Profile, messages: list[bytes]) -> list[tuple[str, int, bytes]]:
    return [
        (frames.NAMES[kind], stream, payload)
        for message in messages
        for kind, stream, payload in profile.split(message)
    ]


def exchange(left: Side, right: Side) -> None:
    """Carry messages both ways until neither side has anything to say."""
    while left.mux.waiting or right.mux.waiting:
        for source, drain in ((left, right), (right, left)):
            for message in joined(source.mux.collect()):
                take_in(drain.mux, message)


def grid(text: str) -> dict[tuple[str, str], str]:
    """A table written as text: {(row, column): cell}."""
    head, *rows = [line.split() for line in text.strip().splitlines()]
    table = {}
    for name, *cells in rows:
        assert len(cells) == len(head), f"row {name} has {len(cells)} cells for {len(head)} columns"
        table.update({(name, column): cell for column, cell in zip(head, cells, strict=True)})
    return table
