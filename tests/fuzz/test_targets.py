"""The targets of the fuzzer by themselves: what it has found stays found, and each of them can fail."""

from collections.abc import Callable
from pathlib import Path

import pytest

from argotun.config import clusters, proxies
from argotun.errors import ArgotunError
from argotun.wire import answer, body, head, hello
from argotun.wire.mux import Multiplexer
from argotun.wire.websocket import FrameReader
from tests.fuzz import policies
from tests.fuzz.cuts import cuts
from tests.fuzz.steps import Steps
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
each_target = pytest.mark.parametrize("name", TARGETS)


def inputs(name: str) -> list[bytes]:
    return [*TARGETS[name].seeds(), *(path.read_bytes() for path in sorted((CORPUS / name).glob("*")))]


@each_target
def test_every_seed_and_the_corpus_keep_the_promises(name: str) -> None:
    for data in [b"", *inputs(name)]:
        TARGETS[name].check(data)


@each_target
def test_every_beginning_of_a_seed_keeps_the_promises(name: str) -> None:
    for data in TARGETS[name].seeds()[::7]:
        for at in range(0, len(data), 9):
            TARGETS[name].check(data[:at])


def test_the_corpus_is_small_and_belongs_to_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= set(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.glob("*/*")) < 600_000


SABOTAGE: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "answers": lambda patch: patch.setattr(answer, "is_own_path", lambda _: True),
    "chunks": lambda patch: patch.setattr(body, "int", lambda text, _: int(text, 36), raising=False),
    "clusters": lambda patch: patch.setattr(clusters, "HIDDEN", None),
    "frames": lambda patch: patch.setattr(Multiplexer, "_got_ping", lambda *_: {}["never"]),
    "heads": lambda patch: patch.setattr(head, "_CUT_REQUEST", (head._CUT_RESPONSE,) * 4),
    "hellos": lambda patch: patch.setattr(hello, "_number", lambda said, key, default, least: said.get(key)),
    "policies": lambda patch: patch.setattr(policies, "NO_SHELL", policies.parse_policy("presets: [full]")),
    "proxies": lambda patch: patch.setattr(proxies.Proxy, "leaks_into", lambda *_: False),
    "websockets": lambda patch: patch.setattr(FrameReader, "_check_size", lambda *_: None),
}


@each_target
def test_a_broken_promise_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    SABOTAGE[name](monkeypatch)
    with pytest.raises((AssertionError, KeyError, ArgotunError)):
        test_every_seed_and_the_corpus_keep_the_promises(name)


def test_work_that_grows_with_the_square_is_seen() -> None:
    def nothing() -> None:
        pass

    def visit(count: int) -> None:
        for _ in range(count):
            str.encode("x")
            nothing()

    with Steps(100):
        visit(100)
    with pytest.raises(AssertionError, match="calls"), Steps(100):
        visit(100 * 100)


def test_an_input_is_cut_at_its_ends_too() -> None:
    data = bytes(range(100))
    pieces = list(cuts(data))
    assert all(b"".join(each) == data and all(each) for each in pieces)
    assert [data[:1], data[1:]] in pieces
    assert pieces[-1] == [bytes([each]) for each in data]
    assert list(cuts(b"")) == list(cuts(b"a")) == []
