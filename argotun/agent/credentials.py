"""The agent's credentials: the API's token, looked at for each request, the server's at each dial."""

import logging
import re
from collections.abc import Callable
from time import monotonic

from argotun.config.values import LONGEST_TOKEN, TOKEN_PATTERN
from argotun.errors import CredentialError
from argotun.files import Fingerprint, Trouble, fingerprint, read

log = logging.getLogger("argotun.agent")

_LARGEST_FILE = LONGEST_TOKEN + 1024
"""Bytes: the longest token, with white space around it."""

_SOUND = re.compile(TOKEN_PATTERN.encode())


class TokenFile:
    """A bearer token in a file that others rotate.

    Each `turn` costs one stat; the file is read when that shows another version. A file that cannot be
    used is a `CredentialError` on every call until it can be: an older token is never used instead. It
    is logged once and told to `on_error`, since those who get the errors may be far from the file.
    """

    __slots__ = ("_header", "_looked", "_path", "_trouble", "_turn", "_version")

    def __init__(
        self, path: str, on_error: Callable[[], None] = lambda: None, turn: Callable[[], float] = monotonic
    ) -> None:
        """`turn()` says which turn of the event loop this is: calls of the same one share a look."""
        self._path = path
        self._turn = turn
        self._looked = -1.0
        self._trouble = Trouble(log, on_error)
        self._version: Fingerprint | None = None
        self._header = b""

    def header(self) -> bytes:
        r"""The ready header line, `Authorization: Bearer …\r\n`; raises CredentialError."""
        turn = self._turn()
        try:
            if self._version is not None and (
                turn == self._looked or fingerprint(self._path) == self._version
            ):
                self._looked = turn
                return self._header
            return self._read()
        except (OSError, ValueError) as error:
            self._version = None
            problem = f"the token file {self._path} cannot be used: {_why(error)}"
            self._trouble.begin(problem, "requests are answered with 502 until it can be")
            raise CredentialError(problem) from None

    def token(self) -> str:
        """The token itself; raises CredentialError."""
        return self.header()[len(b"Authorization: Bearer ") : -2].decode("ascii")

    def _read(self) -> bytes:
        contents = read(self._path, _LARGEST_FILE)
        self._header = b"Authorization: Bearer " + _token(contents.data) + b"\r\n"
        self._version = contents.seen
        self._trouble.end(f"the token file {self._path}")
        return self._header


class ServerToken:
    """The token that the server lets this agent in by: `given`, or what `path` holds at each dial.

    A file that cannot be used leaves the last good token in use, which is logged once and told to
    `on_error`: the tunnel must survive a slip that is repaired before the server takes that token away.
    `option` names the file in messages.
    """

    def __init__(
        self,
        given: str | None,
        path: str | None,
        on_error: Callable[[], None] = lambda: None,
        option: str = "--token-file",
    ) -> None:
        self._path = path
        self._option = option
        self._good = given or ""
        self._trouble = Trouble(log, on_error)

    def current(self) -> str:
        """The token for this dial; CredentialError when the file has never held one."""
        if self._path is None:
            return self._good
        file = f"{self._option} {self._path}"
        try:
            self._good = _token(read(self._path, _LARGEST_FILE).data).decode("ascii")
        except (OSError, ValueError) as error:
            problem = f"{file} cannot be used: {_why(error)}"
            if not self._good:
                raise CredentialError(problem) from None
            self._trouble.begin(problem, "the token read before stays in use")
        else:
            self._trouble.end(file)
        return self._good


def _token(data: bytes) -> bytes:
    """The token in a file's content; ValueError says why there is none."""
    token = data.strip()
    if not token:
        raise ValueError("it is empty")
    if len(token) > LONGEST_TOKEN:
        raise ValueError(f"its token is longer than {LONGEST_TOKEN} characters")
    if not _SOUND.fullmatch(token):
        raise ValueError("it holds characters that no token has (spaces, line breaks, NUL, …)")
    return token


def _why(error: OSError | ValueError) -> str:
    return (error.strerror or "it cannot be read") if isinstance(error, OSError) else str(error)
