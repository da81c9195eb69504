"""As many header fields as kube-apiserver takes from people with many groups, in both directions."""

import pytest

from argotun.wire.refusals import MAX_FIELDS
from tests.rig import Api, Peer, Rig, answer

ORDINARY = (
    b"GET /tunnel/c1/api HTTP/1.1\r\nHost: argotun\r\nUser-Agent: kubectl\r\nAccept: */*\r\n"
    b"Accept-Encoding: gzip\r\nKubectl-Command: kubectl get\r\nImpersonate-User: jane\r\n"
)
FIELDS = 6

# Of Active Directory: a group's id is a UUID.
MOST_GROUPS = 1015


def groups(count: int) -> bytes:
    return b"".join(
        b"Impersonate-Group: %08x-7c2e-4b1a-9d60-0f3c5a7e8b21\r\n" % number for number in range(count)
    )


def recording(api: Api) -> Api:
    def script(peer: Peer) -> None:
        while True:
            api.heads.append(peer.head())
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    api.script = script
    return api


@pytest.mark.parametrize("count", [249, 250, 251, MOST_GROUPS])
def test_a_request_with_many_groups_reaches_the_api(count: int) -> None:
    api = recording(Api())
    with Rig(api) as rig:
        client = rig.client()
        for _ in range(2):
            client.send(ORDINARY + groups(count) + b"\r\n")
            assert client.response().status == 200
        assert [head.count(b"\r\nImpersonate-Group: ") for head in api.heads] == [count] * 2


@pytest.mark.parametrize("count", [255, 256, 300, 1000])
def test_an_answer_with_many_fields_reaches_the_client(count: int) -> None:
    warnings = b"".join(b'Warning: 299 - "w%d"\r\n' % number for number in range(count))
    with Rig(Api(answer(extra=warnings))) as rig:
        got = rig.get()
        assert (got.status, got.body) == (200, b"ok")
        assert got.head.count(b"\r\nWarning: ") == count


@pytest.mark.parametrize("count", [MAX_FIELDS - FIELDS, MAX_FIELDS])
def test_too_many_are_a_431_and_harm_nobody(count: int) -> None:
    """The first would pass the server, but for what it adds."""
    api = recording(Api())
    with Rig(api) as rig:
        client = rig.client()
        client.send(ORDINARY + b"Impersonate-Group: g\r\n" * count + b"\r\n")
        assert client.response().status == 431
        assert not api.heads
        assert rig.get().status == 200


def test_an_answer_with_too_many_is_a_502() -> None:
    with Rig(Api(answer(extra=b"A: b\r\n" * MAX_FIELDS))) as rig:
        assert rig.get().status == 502
