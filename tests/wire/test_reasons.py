"""Reasons in ERROR and GOAWAY: codes where both sides know them, today's words where one does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argotun.wire import reasons
from argotun.wire.frames import MAX_ERROR_TEXT
from argotun.wire.hello import Hello
from tests.wire.mux_peers import Ear, started

EVERY = sorted(code for code in reasons.WORDS if code != reasons.NONE)


@pytest.mark.parametrize("reason", EVERY)
@pytest.mark.parametrize("text", ["", "why it is so"])
def test_a_code_and_its_words_arrive(reason: int, text: str) -> None:
    payload = reasons.encode(reason, text, coded=True)
    assert reasons.decode(payload, coded=True) == (reason, text or reasons.WORDS[reason])


@pytest.mark.parametrize(
    "reason", [reasons.STREAM_LIMIT, reasons.NOT_ALLOWED, reasons.STALE, reasons.REPLACED]
)
def test_a_release_without_codes_is_understood_by_its_words(reason: int) -> None:
    payload = reasons.encode(reason, "", coded=False)
    assert payload == reasons.WORDS[reason].encode()
    assert reasons.decode(payload, coded=False) == (reason, reasons.WORDS[reason])


@pytest.mark.parametrize("coded", [True, False])
def test_words_without_a_code_stay_words(coded: bool) -> None:
    assert reasons.decode(b"connection refused", coded) == (reasons.FAILED, "connection refused")
    assert reasons.decode(b"", coded) == (reasons.FAILED, "")


@pytest.mark.parametrize("reason", EVERY)
def test_words_that_only_begin_like_those_of_a_code_stay_words(reason: int) -> None:
    text = reasons.WORDS[reason] + " by a quota"
    assert reasons.decode(text.encode(), coded=False) == (reasons.FAILED, text)


@pytest.mark.parametrize("reason", EVERY)
def test_a_peer_that_announced_no_codes_says_none(reason: int) -> None:
    payload = bytes((reason,)) + b"why"
    assert reasons.decode(payload, coded=False) == (reasons.FAILED, payload.decode())
    side = started(2, "server")
    ear = Ear()
    stream = side.mux.open(ear)
    side.mux.on_goaway = lambda code, text: side.told.append((text, code))
    side.hear("ERROR", stream.id, payload)
    side.hear("GOAWAY", 0, payload)
    assert ear.reason == reasons.FAILED
    assert side.told[-1] == (payload.decode(), reasons.FAILED)


@pytest.mark.parametrize("text", ["\x04stale", "\0\x1f\x02", "\n"])
def test_words_without_a_code_never_begin_like_one(text: str) -> None:
    """A peer that has our HELLO, but whose own is still on its way, reads them as those of one with codes."""
    payload = reasons.encode(reasons.FAILED, text, coded=False)
    assert reasons.decode(payload, coded=True) == (reasons.FAILED, payload.decode())
    assert payload[0] > reasons.LARGEST


def test_an_error_never_passes_for_a_good_end() -> None:
    assert reasons.decode(b"\0cut short", coded=True) == (reasons.FAILED, "cut short")


@pytest.mark.parametrize("code", [max(reasons.WORDS) + 1, 0x1F])
def test_a_code_of_a_later_release_counts_as_a_failure(code: int) -> None:
    assert reasons.decode(bytes((code,)) + b"later", coded=True) == (reasons.FAILED, "later")


@given(st.binary(), st.booleans())
def test_a_peers_payload_is_bounded_and_never_an_error(payload: bytes, coded: bool) -> None:
    reason, text = reasons.decode(payload, coded)
    assert reason in reasons.WORDS
    assert len(text) <= MAX_ERROR_TEXT


def test_a_peers_words_that_are_no_utf_8_are_shown_as_such() -> None:
    assert reasons.decode(b"\xff" * 5000, coded=False) == (reasons.FAILED, "\ufffd" * MAX_ERROR_TEXT)


@pytest.mark.parametrize("known", [True, False])
def test_codes_are_sent_to_a_peer_that_knows_them(known: bool) -> None:
    side = started(2, "server", Hello(reasons=known))
    stream = side.mux.open(Ear())
    side.mux.goaway(reasons.REPLACED)
    side.mux.reset(stream, reasons.FAILED, "no")
    said = {name: payload for name, _, payload in side.say()}
    assert said["GOAWAY"] == (b"\x07" if known else b"") + b"replaced by a newer agent"
    assert said["ERROR"] == (b"\x01" if known else b"") + b"no"


def test_version_1_has_words_only() -> None:
    side = started(1, "agent")
    side.hear("CONNECT", 1, b"elsewhere:443")
    stream, _ = side.accepted[0]
    side.mux.reset(stream, reasons.NOT_ALLOWED)
    assert side.say() == [("ERROR", 1, b"address not allowed")]
