"""The agent's token files: read when they change; what one that cannot be used means for whom."""

import logging
import os
import time

import pytest

from argotun import files
from argotun.agent import credentials
from argotun.agent.credentials import ServerToken, TokenFile
from argotun.errors import CredentialError


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "token"
    path.write_text("first\n")
    return path


def settle(path):
    """Let the file be older than a clock tick."""
    past = time.time_ns() - 10**10
    os.utime(path, ns=(past, past))


def test_the_header_line_is_ready_to_send(path):
    assert TokenFile(str(path)).header() == b"Authorization: Bearer first\r\n"
    assert TokenFile(str(path)).token() == "first"


@pytest.mark.parametrize("text", ["t0k", "t0k\n", "  t0k\r\n\n"])
def test_space_around_a_token_does_not_count(path, text):
    path.write_text(text)
    assert TokenFile(str(path)).header() == b"Authorization: Bearer t0k\r\n"


def test_an_unchanged_file_is_looked_at_and_not_read(path, monkeypatch):
    monkeypatch.setattr(files, "SETTLED", 0)
    file = TokenFile(str(path))
    first = file.header()
    monkeypatch.setattr(credentials, "read", lambda *_: pytest.fail("read again"))
    assert file.header() is first


def test_requests_of_one_turn_share_a_look(path, monkeypatch):
    monkeypatch.setattr(files, "SETTLED", 0)
    turn = 1.0
    file = TokenFile(str(path), turn=lambda: turn)
    assert file.header() == file.header() == b"Authorization: Bearer first\r\n"
    path.write_text("of-the-next-turn\n")
    assert file.header() == b"Authorization: Bearer first\r\n"
    turn = 2.0
    assert file.header() == b"Authorization: Bearer of-the-next-turn\r\n"


def test_a_changed_file_is_used_at_once(path):
    file = TokenFile(str(path))
    file.header()
    path.write_text("second\n")
    assert file.header() == b"Authorization: Bearer second\r\n"


def test_a_write_in_the_same_clock_tick_is_seen(path):
    """Same inode, size and modification time: only the bytes differ."""
    file = TokenFile(str(path))
    status = path.stat()
    file.header()
    path.write_text("other\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.header() == b"Authorization: Bearer other\r\n"


def test_the_symlink_swap_of_a_projected_volume_is_seen(tmp_path):
    for name in ("..1", "..2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text("token" + name)
        settle(tmp_path / name / "token")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "link").symlink_to("..data/token")
    file = TokenFile(str(tmp_path / "link"))
    assert file.token() == "token..1"
    (tmp_path / "..new").symlink_to("..2")
    os.rename(tmp_path / "..new", tmp_path / "..data")
    assert file.token() == "token..2"


CHARACTERS = "it holds characters that no token has (spaces, line breaks, NUL, …)"
UNUSABLE = [
    (None, "No such file or directory"),
    (b"", "it is empty"),
    (b" \r\n\t\n", "it is empty"),
    (b"a b", CHARACTERS),
    (b"a\r\nX-Evil: 1", CHARACTERS),
    (b"a\nb\n", CHARACTERS),
    (b"a\rb", CHARACTERS),
    (b"a\x00b", CHARACTERS),
    (b"a\x7f", CHARACTERS),
    ("tökén".encode(), CHARACTERS),
    (b"\xef\xbbtoken", CHARACTERS),
    (b"x" * (16 * 1024 + 1), "its token is longer than 16384 characters"),
    (b"x" * (18 * 1024), "it is larger than 17408 bytes"),
]


@pytest.mark.parametrize(("content", "why"), UNUSABLE, ids=range(len(UNUSABLE)))
@pytest.mark.parametrize("settled", [False, True])
def test_a_file_that_cannot_be_used_says_why_every_time_and_recovers(path, content, why, settled):
    file = TokenFile(str(path))
    assert file.token() == "first"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
        if settled:
            settle(path)
    for _ in range(2):
        with pytest.raises(CredentialError) as caught:
            file.header()
        assert str(caught.value) == f"the token file {path} cannot be used: {why}"
    path.write_text("again")
    assert file.token() == "again"


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b" " * 1024])
def test_the_largest_token_is_taken_with_what_is_around_it(path, end):
    path.write_bytes(b"x" * (16 * 1024) + end)
    assert len(TokenFile(str(path)).token()) == 16 * 1024
    assert len(server_token(path)[0].current()) == 16 * 1024


@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_what_is_no_file_is_refused_without_waiting(tmp_path, kind):
    place = tmp_path / "place"
    place.mkdir() if kind == "directory" else os.mkfifo(place)
    with pytest.raises(CredentialError, match="it is not a regular file"):
        TokenFile(str(place)).header()


def test_no_error_shows_the_token(path):
    path.write_text("s3cr3t value")
    with pytest.raises(CredentialError) as caught:
        TokenFile(str(path)).header()
    assert "s3cr3t" not in str(caught.value)


def said(caplog):
    """Levels and sentences of what was logged."""
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_a_file_that_cannot_be_used_is_logged_and_counted_once_until_it_can_be(path, caplog):
    caplog.set_level(logging.INFO)
    counted = []
    file = TokenFile(str(path), lambda: counted.append(1))
    problems = [(b"", "it is empty"), (b"a b", CHARACTERS)]
    for content, _ in problems:
        path.write_bytes(content)
        for _ in range(3):
            with pytest.raises(CredentialError):
                file.header()
    path.write_text("good")
    for _ in range(2):
        assert file.token() == "good"
    assert len(counted) == 2
    meanwhile = "requests are answered with 502 until it can be"
    assert said(caplog) == [
        *(("ERROR", f"the token file {path} cannot be used: {why}; {meanwhile}") for _, why in problems),
        ("INFO", f"the token file {path} can be used again"),
    ]


def test_a_file_that_was_away_and_back_is_reported_each_time(path):
    counted = []
    settle(path)
    file = TokenFile(str(path), lambda: counted.append(1))
    for times in (1, 2):
        path.rename(path.with_name("away"))
        with pytest.raises(CredentialError):
            file.header()
        path.with_name("away").rename(path)
        assert file.token() == "first"
        assert len(counted) == times


# The server's token


def server_token(path, given=None):
    """A ServerToken and the list that grows with each reported problem."""
    counted = []
    return ServerToken(given, path and str(path), lambda: counted.append(1)), counted


def test_a_given_token_needs_no_file():
    token, counted = server_token(None, "given")
    assert token.current() == "given"
    assert not counted


def test_the_file_is_read_at_each_dial(path):
    token, counted = server_token(path)
    assert token.current() == "first"
    # Nothing that a stat could show has changed but the bytes.
    status = path.stat()
    path.write_text("other\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert token.current() == "other"
    assert not counted


@pytest.mark.parametrize(("content", "why"), UNUSABLE, ids=range(len(UNUSABLE)))
def test_a_broken_file_leaves_the_last_good_token_in_use_and_is_reported_once(path, content, why, caplog):
    caplog.set_level(logging.INFO)
    token, counted = server_token(path)
    assert token.current() == "first"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    for _ in range(3):
        assert token.current() == "first"
    path.write_text("second")
    assert token.current() == "second"
    assert len(counted) == 1
    file = f"--token-file {path}"
    assert said(caplog) == [
        ("ERROR", f"{file} cannot be used: {why}; the token read before stays in use"),
        ("INFO", f"{file} can be used again"),
    ]


@pytest.mark.parametrize(("content", "why"), UNUSABLE, ids=range(len(UNUSABLE)))
def test_a_file_that_never_held_a_token_is_an_error_at_each_dial(path, content, why):
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    token, counted = server_token(path)
    for _ in range(2):
        with pytest.raises(CredentialError) as caught:
            token.current()
        assert str(caught.value) == f"--token-file {path} cannot be used: {why}"
    assert not counted
    path.write_text("late\n")
    assert token.current() == "late"


@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_a_server_token_in_what_is_no_file_is_refused_without_waiting(tmp_path, kind):
    place = tmp_path / "place"
    place.mkdir() if kind == "directory" else os.mkfifo(place)
    with pytest.raises(CredentialError, match="it is not a regular file"):
        server_token(place)[0].current()


def test_no_report_shows_a_server_token(path, caplog):
    caplog.set_level(logging.DEBUG)
    path.write_text("s3cr3t")
    token, _ = server_token(path)
    token.current()
    path.write_text("s3cr3t value")
    token.current()
    assert caplog.records
    assert "s3cr3t" not in caplog.text
