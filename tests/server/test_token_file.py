"""The agent's ServiceAccount token: without a usable one no request reaches the API."""

import os
from pathlib import Path

import pytest

from tests.rig import Api, Peer, Rig


def echo_credential(peer: Peer) -> None:
    """Answers with the credential that it was shown."""
    while True:
        lines = [line for line in peer.head().split(b"\r\n") if line.lower().startswith(b"authorization:")]
        body = b"|".join(lines)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def replace(path: Path, text: str) -> None:
    """As the kubelet does: the new file appears as one step."""
    fresh = path.with_name("fresh")
    fresh.write_text(text)
    os.replace(fresh, path)


def test_a_replaced_token_is_used_by_the_next_request_of_the_same_connection() -> None:
    with Rig(Api(echo_credential)) as rig:
        client = rig.client()
        assert rig.get(client=client).body == b"Authorization: Bearer sa-token"
        replace(rig.token_file, "second\n")
        assert rig.get(client=client).body == b"Authorization: Bearer second"
        assert rig.api.connections == 1


@pytest.mark.parametrize("text", [None, "", "\n", "two words", "a\r\nX-Evil: 1", "n\x00ul"])
def test_without_a_usable_token_a_request_is_a_502_that_says_why(text: str | None) -> None:
    with Rig(Api(echo_credential)) as rig:
        client = rig.client()
        assert rig.get(client=client).status == 200
        if text is None:
            rig.token_file.unlink()
        else:
            replace(rig.token_file, text)
        heads = rig.api.connections
        for path in ("/tunnel/c1/api/v1/pods", "/tunnel/c1/api"):
            response = rig.get(path, client=client)
            assert (response.status, response.header("retry-after")) == (502, None)
            assert "token" in response.json()["message"]
            assert str(rig.token_file) in response.json()["message"]
        client.send(
            b"POST /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000
        )
        assert client.response().status == 502
        assert rig.api.connections == heads
        replace(rig.token_file, "third")
        assert rig.get(client=rig.client()).body == b"Authorization: Bearer third"


def test_a_client_connection_recovers_with_the_token() -> None:
    with Rig(Api(echo_credential)) as rig:
        rig.token_file.write_text("")
        client = rig.client()
        assert rig.get(client=client).status == 502
        replace(rig.token_file, "now")
        assert rig.get(client=client).body == b"Authorization: Bearer now"
