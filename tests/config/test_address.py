"""A host and a port as text, with the brackets that an IPv6 address needs, everywhere the same."""

import pytest

from argotun.address import host_port, socket_name


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("example.com", "example.com:4711"),
        ("192.0.2.1", "192.0.2.1:4711"),
        ("2001:db8::1", "[2001:db8::1]:4711"),
        ("::1", "[::1]:4711"),
        ("", ":4711"),
    ],
)
def test_an_ipv6_address_stands_in_brackets(host, shown):
    assert host_port(host, 4711) == shown
    assert socket_name((host, 4711)) == shown
