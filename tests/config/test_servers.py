"""The URL of a server, read once: where to dial it, and what its requests say."""

import pytest

from argotun.config.network import parse_server_url


@pytest.mark.parametrize(
    ("url", "place", "name", "target"),
    [
        ("wss://h.example/connect", (True, "h.example", 443), "h.example", "/connect"),
        ("wss://h.example:443/connect", (True, "h.example", 443), "h.example", "/connect"),
        ("ws://h.example:443/connect", (False, "h.example", 443), "h.example:443", "/connect"),
        ("ws://[::1]:8443/c", (False, "::1", 8443), "[::1]:8443", "/c"),
        ("wss://[fd00::1]/c", (True, "fd00::1", 443), "[fd00::1]", "/c"),
        ("ws://10.0.0.1", (False, "10.0.0.1", 80), "10.0.0.1", "/connect"),
        ("wss://h/?a=b", (True, "h", 443), "h", "/connect?a=b"),
    ],
)
def test_a_server_url_says_where_and_what(url, place, name, target):
    found = parse_server_url(url)
    assert (found.tls, found.host, found.port) == place
    assert (found.name, found.target) == (name, target)


def test_a_server_url_is_shown_as_it_was_given_with_its_path():
    assert str(parse_server_url("wss://H.example:443")) == "wss://H.example:443/connect"
