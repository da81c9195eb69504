"""Where a redirect may lead: to a path that every client resolves to itself."""

from posixpath import normpath
from urllib.parse import unquote, urljoin, urlparse, urlunparse

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from argotun.wire.location import is_own_path, relative


@pytest.mark.parametrize(
    "location",
    [
        b"/",
        b"/api",
        b"/api/v1/namespaces/a/pods/b/proxy/",
        b"/a?b=/../c&d=//e",
        b"/a%2Fb",
        b"/a%2Fb..%2F..c",
        b"/...",
        b"/a.b/.c",
    ],
)
def test_an_absolute_path_is_this_apis_own(location: bytes) -> None:
    assert is_own_path(location)


@pytest.mark.parametrize(
    "location",
    [
        *(
            b"",
            b"api",
            b"?a",
            b"//a",
            b"/a//b",
            b"/.",
            b"/..",
            b"/./a",
            b"/../a",
            b"/a/.",
            b"/a/..",
            b"/a/../b",
        ),
        *(
            b"/%2e",
            b"/%2E%2e/a",
            b"/.%2e",
            b"/a/%2e%2e%2fb",
            b"/a%2f..%2f..%2fb",
            b"/a%2F%2E%2E/b",
            b"/a%2f..",
            b"/a/..%5Cb",
            b"/a%5c..%5cb",
            b"/..;a",
            b"/a/..;/b",
            b"/a\\b",
            b"/a#b",
            b"/a b",
        ),
        *(b"/a\xff", b"/a\tb", b"/a\x00", b"http:/a", b"https://a/", b"javascript:a"),
    ],
)
def test_whatever_may_lead_elsewhere_is_not(location: bytes) -> None:
    assert not is_own_path(location)


PIECES = st.sampled_from(
    ["/", ".", "..", "%2e", "%2E", "%2f", "%5C", ";", "?", "#", "\\", "a", "b", ":", "@", "&=", " "]
)
LOCATIONS = st.lists(PIECES, max_size=9).map(lambda pieces: "/" + "".join(pieces))


@settings(deadline=None)
@given(LOCATIONS)
def test_an_own_path_is_resolved_to_itself(location: str) -> None:
    assume(is_own_path(location.encode()))
    reference = "/tunnel/c1" + location
    # What leaves an empty `;` or `?` out leads nowhere else; urljoin does before Python 3.14.
    same = urlunparse(urlparse(reference))
    joined = urljoin("https://server.example/x/y", reference)
    assert urlunparse(urlparse(joined)) == "https://server.example" + same


@settings(deadline=None)
@given(LOCATIONS)
def test_an_own_path_stays_in_its_cluster_when_it_is_decoded_first(location: str) -> None:
    assume(is_own_path(location.encode()))
    path = unquote("/tunnel/c1" + location.partition("?")[0]).replace("\\", "/")
    assert f"{normpath(path)}/".startswith("/tunnel/c1/")


def test_only_a_known_origin_is_cut_off() -> None:
    origins = {b"https://a:6443", b"https://[::1]:6443"}
    assert relative(b"https://a:6443/x", origins) == b"/x"
    assert relative(b"https://[::1]:6443/x", origins) == b"/x"
    assert relative(b"https://a:6443@b/x", origins) == b"https://a:6443@b/x"
    assert relative(b"https://a/x", origins) == b"https://a/x"
    assert relative(b"/x", origins) == b"/x"
