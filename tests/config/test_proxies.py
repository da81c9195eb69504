"""What a proxy's URL says, and for which addresses the environment's proxy is: all forms of NO_PROXY."""

import pytest

from argotun.config.network import PROXY_URL, parse_proxy
from argotun.config.proxies import Proxy, from_environment


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
    assert parse_proxy(url) == Proxy(host, port, tls)


@pytest.mark.parametrize(
    "url",
    [
        *("socks5://p:1", "http://", "http://p:x", "http://p:99999", "http://[::1", "://", "http://a b"),
        *("http://p/path", "http://p?x", "http://user:hunter2", "ftp://user:hunter2@p:1"),
    ],
)
def test_a_url_that_is_no_proxys_is_refused(url):
    with pytest.raises(ValueError):
        parse_proxy(url)


def test_a_proxy_shows_no_credentials():
    proxy = parse_proxy("http://user:hunter2@p.example:3128")
    assert PROXY_URL.show(proxy) == "http://(hidden)@p.example:3128"
    assert "hunter2" not in repr(proxy)
    assert proxy.leaks_into("your password hunter2 is wrong")


def chosen(host, port=443, **environ):
    found = from_environment(host, port, environ)
    return found and parse_proxy(found[1]).host


def test_the_environments_proxy_is_used():
    assert chosen("h.example") is None
    assert chosen("h.example", HTTPS_PROXY="http://big:1") == "big"
    assert chosen("h.example", https_proxy="http://small:1") == "small"
    assert chosen("h.example", HTTPS_PROXY="http://big:1", https_proxy="http://small:1") == "big"
    assert chosen("h.example", HTTPS_PROXY="", https_proxy="http://small:1") == "small"


def test_the_variable_that_names_the_proxy_is_told():
    assert from_environment("h", 443, {"https_proxy": " http://p:1 "}) == ("https_proxy", "http://p:1")


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
