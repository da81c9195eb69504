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
    assert reasons.decode(payload) == (reason, text or reasons.WORDS[reason])


@pytest.mark.parametrize(
    "reason", [reasons.STREAM_LIMIT, reasons.NOT_ALLOWED, reasons.STALE, reasons.REPLACED]
)
def test_a_release_without_codes_is_understood_by_its_words(reason: int) -> None:
    payload = reasons.encode(reason, "", coded=False)
    assert payload == reasons.WORDS[reason].encode()
    assert reasons.decode(payload)[0] == reason


def test_words_of_a_release_without_codes_stay_words() -> None:
    assert reasons.decode(b"connection refused") == (reasons.FAILED, "connection refused")
    assert reasons.decode(b"") == (reasons.FAILED, "")


def test_an_error_never_passes_for_a_good_end() -> None:
    assert reasons.decode(b"\0cut short") == (reasons.FAILED, "cut short")


@pytest.mark.parametrize("code", [9, 0x1F])
def test_a_code_of_a_later_release_counts_as_a_failure(code: int) -> None:
    assert reasons.decode(bytes((code,)) + b"later") == (reasons.FAILED, "later")


@given(st.binary())
def test_a_peers_payload_is_bounded_and_never_an_error(payload: bytes) -> None:
    reason, text = reasons.decode(payload)
    assert reason in reasons.WORDS
    assert len(text) <= MAX_ERROR_TEXT


def test_a_peers_words_that_are_no_utf_8_are_shown_as_such() -> None:
    assert reasons.decode(b"\xff" * 5000) == (reasons.FAILED, "\ufffd" * MAX_ERROR_TEXT)


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
