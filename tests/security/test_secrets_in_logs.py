"""What a client asks for in its query, and what it proves itself with, stands in no log line."""

import logging

import pytest

from tests.rig import Api, Peer, Rig, until
from tests.secrecy import Watch
from tests.secrecy import watch as watching

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


def record(text: str, *args: object, **values: object) -> logging.LogRecord:
    made = logging.LogRecord("argotun.server", logging.DEBUG, __file__, 1, text, args, None)
    vars(made)["fields"] = values
    return made


def test_the_watch_sees_what_was_sent_in_a_line_that_was_logged() -> None:
    watch = Watch()
    watch.hold("token-of-c1")
    watch.sent(b"GET /a?command=-pQUERY HTTP/1.1\r\nHost: a\r\nCookie: id=of-a-session\r\n\r\n")
    watch.emit(record("nothing to see", path="/a", file="/run/token-of-c1", option="--token-of-c1-file"))
    assert watch.leaks() == []
    for secret in ("token-of-c1", "command=-pQUERY", "id=of-a-session"):
        watch.begin()
        watch.emit(record("asked for %s", secret))
        assert len(watch.leaks()) == 1, secret
        watch.begin()
        watch.emit(record("asked", path=f"/a?{secret}"))
        assert len(watch.leaks()) == 1, secret
        watch.begin()
        watch.said(f"first line\nsecond: {secret}\n")
        assert len(watch.leaks()) == 1, secret


def test_what_another_file_sent_is_a_word_like_any_other() -> None:
    watch = Watch()
    watch.hold("token-of-c1")
    watch.sent(b"GET /a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer second\r\n\r\n")
    watch.emit(record("refused in this second"))
    assert len(watch.leaks()) == 1
    watch.begin_file()
    assert watch.leaks() == []
    watch.emit(record("asked for %s", "token-of-c1"))
    assert len(watch.leaks()) == 1


def test_all_that_this_run_logs_is_watched() -> None:
    logging.getLogger("argotun.somewhere").debug("a line at the lowest level")
    assert any("a line at the lowest level" in line for line in watching._lines)
