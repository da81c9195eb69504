"""The credential that the agent adds to a request: a token file, looked at each time."""

import os
import re

from argotun.config.fileversion import Version, read_version, version_of
from argotun.errors import CredentialError

LARGEST_TOKEN = 16 * 1024
"""Bytes; a Kubernetes token has 1 to 2 KiB, and a whole request head must stay under 64 KiB."""

SOUND = re.compile(rb"[\x21-\x7e]+")
"""Visible ASCII without spaces: nothing that could end the header line early."""


class TokenFile:
    """A bearer token in a file that others rotate.

    Each call costs one stat; the file is read when that shows another version. A file that cannot be
    used is a `CredentialError` on every call until it can be: an older token is never used instead.
    """

    __slots__ = ("_header", "_path", "_version")

    def __init__(self, path: str) -> None:
        self._path = path
        self._version: Version | None = None
        self._header = b""

    def header(self) -> bytes:
        r"""The ready header line, `Authorization: Bearer …\r\n`; raises CredentialError."""
        try:
            if self._version is not None and version_of(os.stat(self._path)) == self._version:
                return self._header
            return self._read()
        except OSError as error:
            raise self._unusable(error.strerror or "it cannot be read") from None

    def token(self) -> str:
        """The token itself; raises CredentialError."""
        return self.header()[len(b"Authorization: Bearer ") : -2].decode("ascii")

    def _read(self) -> bytes:
        contents = read_version(self._path, LARGEST_TOKEN)
        if len(contents.data) > LARGEST_TOKEN:
            raise self._unusable(f"it is larger than {LARGEST_TOKEN} bytes")
        token = contents.data.strip()
        if not token:
            raise self._unusable("it is empty")
        if not SOUND.fullmatch(token):
            raise self._unusable("it holds characters that no token has (spaces, line breaks, NUL, …)")
        self._header = b"Authorization: Bearer " + token + b"\r\n"
        self._version = contents.version
        return self._header

    def _unusable(self, why: str) -> CredentialError:
        return CredentialError(f"the token file {self._path} cannot be used: {why}")
