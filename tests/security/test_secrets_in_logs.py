"""What a client asks for in its query, and what it proves itself with, stands in no log line."""

import logging

import pytest

from tests.rig import Api, Peer, Rig, until

QUERY = b"command=mysql&command=-pSECRETOFTHEQUERY&access_token=SECRETTOKENOFTHEQUERY"


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_a_client_that_is_given_up_leaves_its_query_nowhere(
    caplog: pytest.LogCaptureFixture, level: int
) -> None:
    caplog.set_level(level)

    def pours(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % 8_000_000)
        for _ in range(80):
            peer.send(b"x" * 100_000)

    with Rig(Api(pours), server={"stall_timeout": 0.3}) as rig:
        client = rig.client(buffer=4096)
        client.send(b"GET /tunnel/c1/api/v1/pods/p/exec?%b HTTP/1.1\r\nHost: a\r\n\r\n" % QUERY)
        until(lambda: any("given up" in r.getMessage() for r in caplog.records), "the end of the client")
    (given_up,) = [r for r in caplog.records if "given up" in r.getMessage()]
    assert given_up.fields["path"] == b"/api/v1/pods/p/exec"  # type: ignore[attr-defined]
    assert not any("SECRET" in f"{r.getMessage()} {vars(r)}" for r in caplog.records)
