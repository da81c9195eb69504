"""Which proxy applies to an address: --proxy, the environment, and all forms of NO_PROXY."""

import pytest

from argotun.errors import ConfigError
from argotun.transport.proxy import Proxy, proxy_for


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("http://p.example:3128", "p.example", 3128, False),
        ("http://p.example", "p.example", 80, False),
        ("https://p.example", "p.example", 443, True),
        ("p.example:3128", "p.example", 3128, False),
        ("http://[::1]:3128/", "::1", 3128, False),
        ("HTTP://P.example:1", "p.example", 1, False),
    ],
)
def test_a_proxys_url_is_read(url, host, port, tls):
    assert Proxy.parse(url) == Proxy(host, port, tls)


@pytest.mark.parametrize(
    "url", ["socks5://p:1", "http://", "http://p:x", "http://p:99999", "http://[::1", "://", "http://a b"]
)
def test_a_url_that_is_no_proxys_is_refused(url):
    with pytest.raises(ConfigError) as caught:
        Proxy.parse(url)
    assert caught.value.option == "--proxy"


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter2",
        "http://user:hunter2/",
        "user:hunter2",
        "ftp://user:hunter2@p:1",
        "http://u:1hunter2",
    ],
)
def test_a_url_that_is_no_proxys_is_refused_without_its_password(url):
    with pytest.raises(ConfigError) as caught:
        Proxy.parse(url)
    assert "hunter2" not in str(caught.value)


def chosen(host, port=443, given=None, **environ):
    found = proxy_for(host, port, environ, given)
    return found and found.host


def test_the_environments_proxy_is_used():
    assert chosen("h.example") is None
    assert chosen("h.example", HTTPS_PROXY="http://big:1") == "big"
    assert chosen("h.example", https_proxy="http://small:1") == "small"
    assert chosen("h.example", HTTPS_PROXY="http://big:1", https_proxy="http://small:1") == "big"
    assert chosen("h.example", HTTPS_PROXY="", https_proxy="http://small:1") == "small"


def test_the_option_counts_before_the_environment():
    environ = {"HTTPS_PROXY": "http://env:1", "NO_PROXY": "*"}
    assert chosen("h.example", given="http://opt:1", **environ) == "opt"
    assert chosen("localhost", given="http://opt:1") == "opt"


def test_a_broken_proxy_of_the_environment_names_its_variable():
    with pytest.raises(ConfigError, match="HTTPS_PROXY"):
        chosen("h.example", HTTPS_PROXY="socks5://x:1")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "LOCALHOST"])
def test_loopback_is_never_reached_through_the_environments_proxy(host):
    assert chosen(host, HTTPS_PROXY="http://p:1") is None


@pytest.mark.parametrize(
    ("exempt", "host", "port", "direct"),
    [
        ("*", "h.example", 443, True),
        ("h.example", "h.example", 443, True),
        ("H.Example", "h.EXAMPLE.", 443, True),
        ("example", "h.example", 443, True),
        ("h.example", "xh.example", 443, False),
        (".example", "h.example", 443, True),
        (".example", "example", 443, False),
        ("*.example", "h.example", 443, True),
        ("a, b ,h.example", "h.example", 443, True),
        ("h.example:8443", "h.example", 8443, True),
        ("h.example:8443", "h.example", 443, False),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.1.2.3", "10.1.2.3", 443, True),
        ("10.1.2.3:443", "10.1.2.3", 443, True),
        ("2001:db8::/32", "2001:db8::1", 443, True),
        ("2001:db8::1", "[2001:db8::1]", 443, True),
        ("[2001:db8::1]:443", "2001:db8::1", 443, True),
        ("[2001:db8::1]:444", "2001:db8::1", 443, False),
        ("10.0.0.0/8", "h.example", 443, False),
        ("0.0.1", "10.0.0.1", 443, False),
        (",, ,", "h.example", 443, False),
        ("a h.example\tb", "h.example", 443, True),
        ("example.", "h.example", 443, True),
        ("h.example.:443", "h.example", 443, True),
        (".", "h.example", 443, False),
        ("10.1.2.3/8", "10.9.9.9", 443, True),
        ("fd00::/8,10.0.0.0/8,.svc,.cluster.local", "tunnel.example.com", 443, False),
        ("fd00::/8,10.0.0.0/8,.svc,.cluster.local", "argotun.argocd.svc", 443, True),
    ],
)
def test_no_proxy_exempts_what_it_names(exempt, host, port, direct):
    assert (chosen(host, port, HTTPS_PROXY="http://p:1", NO_PROXY=exempt) is None) == direct
