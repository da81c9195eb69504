"""A child process that is told what to do: a line on a Unix socket, and a line of JSON as the answer."""

import json
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gevent
from gevent.server import StreamServer

from bench.site import START_LIMIT, Child, Site, wait_until

CLONE = Path(__file__).resolve().parent.parent
ANSWER_LIMIT = 60.0  # seconds that a child may take for one word

Words = Mapping[str, Callable[..., Any]]
"""What each word does; what stands behind it on its line are whole numbers for the call."""


def obey(path: str, words: Words) -> None:
    """Listen on `path` and do as told, for ever."""

    def serve(sock: Any, _peer: object) -> None:
        with sock, sock.makefile("rw") as lines:
            for line in lines:
                word, *numbers = line.split()
                lines.write(json.dumps(words[word](*map(int, numbers))) + "\n")
                lines.flush()

    listening = socket.socket(socket.AF_UNIX)
    fresh = Path(path).with_suffix(".new")
    listening.bind(str(fresh))
    listening.listen()
    os.rename(fresh, path)
    StreamServer(listening, serve).start()
    gevent.get_hub().join()


class Told:
    """A child that obeys, as its parent sees it: `python -m MODULE SOCKET ARGUMENTS`."""

    def __init__(self, site: Site, name: str, module: str, arguments: Sequence[str]) -> None:
        self._control = site.folder / f"{name}.sock"
        self._lines: Any = None
        # A child's working directory is the site's folder.
        python = ["env", f"PYTHONPATH={CLONE}", sys.executable, "-m", module]
        self.child: Child = site.start(name, [*python, str(self._control), *arguments])

    def connect(self, limit: float = START_LIMIT, answers: float = ANSWER_LIMIT) -> None:
        """Wait until the process takes words, `limit` seconds at most; each answer may take `answers`."""
        wait_until(self.child.name, self._control.exists, [self.child], limit)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(answers)
            sock.connect(str(self._control))
            self._lines = sock.makefile("rw")

    def say(self, word: str) -> Any:
        """Have a word obeyed; the answer."""
        self.begin(word)
        return self.end()

    def begin(self, word: str) -> None:
        """Say a word; what comes of it is for `end`."""
        self._lines.write(word + "\n")
        self._lines.flush()

    def end(self) -> Any:
        """The answer to the word that was begun."""
        return json.loads(self._lines.readline())

    def close(self) -> None:
        """Say no more; the process goes on."""
        if self._lines is not None:
            self._lines.close()
