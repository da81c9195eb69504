"""The grammar of values: what is shown can be read, and nothing but ValueError comes of any text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argotun.config.network import (
    PROXY_URL,
    parse_address,
    parse_optional_address,
    parse_proxy,
    show_address,
)
from argotun.config.values import parse_duration, rate, show_duration, show_size, size
from argotun.options.table import OPTIONS


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("500ms", 0.5),
        ("15s", 15),
        ("1.5s", 1.5),
        ("5m", 300),
        ("1h", 3600),
        ("1h30m", 5400),
        ("1m500ms", 60.5),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0"),
        (0.5, "500ms"),
        (0.0015, "1.5ms"),
        (1.5, "1.5s"),
        (60, "60s"),
        (90, "90s"),
        (600, "10m"),
        (7200, "2h"),
        (3661, "3661s"),
    ],
)
def test_durations_are_shown_as_people_write_them(seconds, text):
    assert show_duration(seconds) == text
    assert parse_duration(text) == pytest.approx(seconds)


@given(st.integers(0, 30 * 24 * 3600 * 1000))
def test_a_duration_shown_is_read_back(milliseconds):
    assert parse_duration(show_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@given(st.floats(0, 1e12).map(lambda number: round(number, 3)))
def test_a_rate_shown_is_read_back(number):
    kind = rate("requests per second")
    assert kind.parse(kind.show(number)) == pytest.approx(number)


@given(st.integers(0, 1 << 40))
def test_a_size_shown_is_read_back(value):
    assert size(0).parse(show_size(value)) == value


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":8443", ("", 8443)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:443", ("::1", 443)),
        ("a_b.svc.:1", ("a_b.svc.", 1)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
    ],
)
def test_addresses(text, address):
    assert parse_address(text) == address
    assert show_address(address) == text


def test_an_address_that_is_off_is_none():
    assert parse_optional_address("off") is None
    assert show_address(None) == "off"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://p:1", "http://p:1"),
        ("http://u:p@p:1", "http://(hidden)@p:1"),
        ("http://u:a@b@p:1", "http://(hidden)@p:1"),
    ],
)
def test_a_proxy_is_shown_without_its_password(url, shown):
    assert PROXY_URL.show(parse_proxy(url)) == shown


@given(
    st.sampled_from(OPTIONS),
    st.text(max_size=40) | st.from_regex(r"[\[\]:/@.a-z0-9%-]{0,30}", fullmatch=True),
)
def test_no_text_raises_anything_but_value_error(option, text):
    try:
        value = option.kind.parse(text)
    except ValueError:
        return
    assert isinstance(option.show(value), str)
