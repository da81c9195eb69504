"""What no log may hold: the secrets of a test run, and a watch over every line that argotun logs in it.

The rig tells which tokens it has made, and its raw clients what they send as a credential or in a query.
After each test `tests/conftest.py` looks whether one of them stands in a line that was logged meanwhile,
from debug on and as an operator would see it. Child processes hand in what they have written.
"""

import logging
import re
from collections.abc import Iterable

from argotun.observe.logs import TextFormatter

SHORTEST = 6
"""Characters of a secret; a shorter one may well stand in a line by chance."""

_QUERY = re.compile(rb"[A-Z]+ [^ ?\r\n]*\?([^ \r\n]{8,}) HTTP/1\.")
_CREDENTIAL = re.compile(
    rb"(?im)^(?:authorization|proxy-authorization|cookie)[ \t]*:[ \t]*(?:bearer |basic )?([^\r\n]+)"
)


class Watch(logging.Handler):
    """The secrets that are held, and the lines that were said since `begin`."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(TextFormatter())
        self._held: set[str] = set()
        self._sent: set[str] = set()
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """A record of argotun's own, as the log shows it."""
        if record.name.partition(".")[0] == "argotun":
            self._lines.append(self.format(record))

    def said(self, text: str) -> None:
        """What a child process has written."""
        self._lines += text.splitlines()

    def hold(self, *secrets: str) -> None:
        """These may stand in no line from now on."""
        self._held |= _long(secrets)

    def sent(self, data: bytes) -> None:
        """Hold what a request carries that is nobody else's business, until this file's tests are over."""
        if b" HTTP/1." not in data[:8192]:
            return
        head = data[:8192].partition(b"\r\n\r\n")[0]
        found = (*_QUERY.findall(head), *_CREDENTIAL.findall(head))
        self._sent |= _long(each.decode("latin-1") for each in found)

    def begin_file(self) -> None:
        """A file's tests begin: to them what those of another one sent may be a word like any other."""
        self._sent.clear()

    def begin(self) -> None:
        """A test begins: what was said before is not its doing."""
        self._lines.clear()

    def leaks(self) -> list[str]:
        """The lines that hold a secret as a word of its own; a file's name may be called like one."""
        text = "\n".join(self._lines)
        found = [secret for secret in self._held | self._sent if secret in text]
        if not found:
            return []
        words = re.compile(r"(?<![\w/.-])(?:{})(?![\w.-])".format("|".join(map(re.escape, found))))
        return [line for line in self._lines if words.search(line)]


def _long(secrets: Iterable[str]) -> set[str]:
    return {secret for secret in secrets if len(secret) >= SHORTEST}


watch = Watch()
