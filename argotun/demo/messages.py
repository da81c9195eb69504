"""A request and an answer of the stand-in API, as plain values."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"


@dataclass(slots=True)
class Request:
    """A request as the API sees it; `target` is the raw request target, `fd` the client's socket."""

    method: str
    target: str
    body: bytes = b""
    content_type: str = ""
    accept: str = ""
    user: str = ""
    fd: int = -1
    query: dict[str, str] = field(init=False)
    path: list[str] = field(init=False)

    def __post_init__(self) -> None:
        path, _, query = self.target.partition("?")
        if not path.startswith("/"):
            path = urlsplit(path).path
        self.query = dict(reversed(parse_qsl(query, keep_blank_values=True)))
        self.path = [unquote(part) for part in path.strip("/").split("/")]

    @property
    def dry_run(self) -> bool:
        """True where the client only wants to know what would come of it."""
        return self.query.get("dryRun", "") == "All"


class Stream(Protocol):
    """A body that comes bit by bit; whoever got it must close it."""

    def __iter__(self) -> Iterator[bytes]: ...

    def close(self) -> None:
        """Let go of what it holds."""


@dataclass(slots=True)
class Answer:
    """What goes back, in one piece or as a stream."""

    code: int
    body: bytes | Stream
    content_type: str = JSON


def as_json(obj: Any, code: int = 200) -> Answer:
    """An object as an answer."""
    return Answer(code, json.dumps(obj, separators=(",", ":")).encode() + b"\n")
