"""Unix sockets in a folder of ours: how processes of one machine that know each other's names connect.

A socket has its name only once it listens. So one that refuses is what was left by a process that was killed.
"""

import errno
import os
import stat
from contextlib import suppress

from gevent import socket as _socket
from gevent.socket import socket

from argotun.errors import DialError, TransportError
from argotun.transport.explain import explain

SUFFIX = ".sock"


def path_of(folder: str, name: str) -> str:
    """The path of the socket that has this name; a name has letters and digits only."""
    return os.path.join(folder, name + SUFFIX)


def prepare(folder: str) -> None:
    """Make the folder where it is missing, and remove the sockets in it that nobody listens on.

    Raises TransportError where it cannot be made or read, or others than this user may enter it.
    """
    try:
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        found = os.stat(folder)
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise TransportError(f"{folder} must be of this user, who alone may enter it (mode 0700)")
        for name in os.listdir(folder):
            if name.endswith(SUFFIX) and _is_dead(os.path.join(folder, name)):
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(folder, name))
    except OSError as error:
        raise TransportError(f"{folder} cannot be used: {explain(error)}") from error


def _is_dead(path: str) -> bool:
    with socket(_socket.AF_UNIX, _socket.SOCK_STREAM) as sock:
        sock.settimeout(0.0)
        return int(sock.connect_ex(path)) == errno.ECONNREFUSED


def listen(path: str, backlog: int) -> socket:
    """A socket that listens under this path; OSError where that is not possible."""
    folder, name = os.path.split(path)
    unnamed = os.path.join(folder, "." + name.removesuffix(SUFFIX))
    sock = socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.bind(unnamed)
        try:
            sock.listen(backlog)
            os.rename(unnamed, path)
        except BaseException:
            os.unlink(unnamed)
            raise
    except BaseException:
        sock.close()
        raise
    return sock


class SocketPath:
    """A Unix socket that is dialled again and again; as `Destination`, for a process of this machine."""

    def __init__(self, path: str) -> None:
        self._path = path

    def dial(self) -> socket:
        """A connection; DialError where nobody listens there, or too many wait already."""
        sock = socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            # There is nothing to wait for: it is made at once, or not at all.
            sock.settimeout(0.0)
            sock.connect(self._path)
            sock.settimeout(None)
        except OSError as error:
            sock.close()
            raise DialError(f"cannot connect to {self._path}: {explain(error)}") from error
        return sock
