"""Unix sockets in a folder: who is there is found by name, and who was killed leaves nothing in the way."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from argotun.errors import DialError, TransportError
from argotun.transport import paths
from argotun.transport.listen import Listener
from argotun.transport.paths import SocketPath, path_of, prepare


@pytest.fixture
def folder() -> Iterator[str]:
    # tmp_path may be too long for a socket.
    with TemporaryDirectory(prefix="argotun-") as above:
        made = f"{above}/s"
        prepare(made)
        yield made


def listening(path: str, handle: Any = lambda sock, peer: sock.sendall(b"hello")) -> Listener:
    listener = Listener(("", 0), handle, handshake_timeout=10.0, hello_timeout=2.0, path=path)
    listener.start()
    return listener


def test_who_listens_at_a_path_is_dialled_there_and_leaves_nothing(folder: str) -> None:
    path = path_of(folder, "a1")
    peers: list[Any] = []

    def handle(sock: Any, peer: Any) -> None:
        peers.append(peer)
        sock.sendall(b"hello")

    listener = listening(path, handle)
    assert listener.name == path
    assert os.listdir(folder) == ["a1.sock"]
    sock = SocketPath(path).dial()
    assert (sock.recv(5), sock.recv(1)) == (b"hello", b"")
    sock.close()
    assert peers == [("", 0)]
    listener.stop_accepting()
    assert os.listdir(folder) == []


def test_a_folder_that_is_missing_is_made_for_its_owner_only(folder: str) -> None:
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    prepare(folder)


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o777])
def test_a_folder_that_others_may_enter_is_refused(folder: str, mode: int) -> None:
    os.chmod(folder, mode)
    with pytest.raises(TransportError, match="who alone may enter it"):
        prepare(folder)


def test_what_is_no_folder_or_has_none_above_it_is_refused(folder: str) -> None:
    file = Path(folder) / "file"
    file.write_text("")
    for path, words in ((str(file), "not a directory"), (f"{folder}/a/b", "no such file")):
        with pytest.raises(TransportError, match=rf"{path} cannot be used: .*{words}"):
            prepare(path)


def test_what_a_killed_process_left_is_removed_and_nothing_else(folder: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path_of(folder, "dead"))
    (Path(folder) / "notes.txt").write_text("")
    (Path(folder) / "file.sock").write_text("")
    live = listening(path_of(folder, "live"))
    prepare(folder)
    assert "live.sock" in os.listdir(folder)
    assert "notes.txt" in os.listdir(folder)
    assert "dead.sock" not in os.listdir(folder)
    live.stop_accepting()


def test_a_socket_has_its_name_once_it_listens(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else another process that starts would take it for a dead one."""
    seen: list[list[str]] = []
    listen = paths.socket.listen

    def looking(sock: Any, backlog: int) -> None:
        prepare(folder)
        seen.append(os.listdir(folder))
        listen(sock, backlog)

    monkeypatch.setattr(paths.socket, "listen", looking)
    listener = listening(path_of(folder, "a1"))
    assert seen == [[".a1"]]
    assert os.listdir(folder) == ["a1.sock"]
    listener.stop_accepting()


def test_a_path_that_cannot_be_listened_on_is_told(folder: str) -> None:
    with pytest.raises(TransportError, match=r"cannot listen on .*/none/a1.sock: no such file"):
        listening(path_of(f"{folder}/none", "a1"))
    with pytest.raises(TransportError, match="cannot listen on"):
        listening(path_of(folder, "x" * 100))


def test_nobody_and_a_full_queue_are_told_at_once(folder: str) -> None:
    path = path_of(folder, "a1")
    with pytest.raises(DialError, match=r"cannot connect to .*a1.sock: no such file"):
        SocketPath(path).dial()
    # Nobody accepts: a wait would be one for ever.
    full = pytest.raises(DialError, match="temporarily unavailable")
    with paths.listen(path, 0), ExitStack() as kept, full:
        fill(kept, path)


def fill(kept: ExitStack, path: str) -> None:
    for _ in range(100):
        kept.enter_context(SocketPath(path).dial())
