"""What stands in the registry: routes, records and messages as text, each checked strictly when it is read.

Whoever can write to the registry can write anything, so reading raises ValueError and nothing else. Keys and
items that are not known here are passed over: a later release may say more.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard

from argotun.config.values import CLUSTER_ID_PATTERN

EXCLUSIVE, LEAVING, SINGLE, CALLERS = 1, 2, 4, 8
"""Flags of a route: its session stands alone; its agents go away; they speak version 1; all of them want to
hear who asks."""

MOST_FIELDS = 20_000
"""Clusters of one replica: it has no more descriptors."""
LARGEST = 4 << 20
"""Bytes of one replica's hash or of one message: several times what MOST_FIELDS ordinary routes take."""

_LARGEST_NUMBER = 1 << 53
_is_id = re.compile(r"[0-9a-f]{16}", re.ASCII).fullmatch
_is_cluster = re.compile(CLUSTER_ID_PATTERN, re.ASCII).fullmatch
_is_address = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII).fullmatch
_is_release = re.compile(r"[\x20-\x7e]{0,64}", re.ASCII).fullmatch
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Route(NamedTuple):
    """That a replica has agents of a cluster.

    `since` is the microsecond of the registry's clock at which the newest of the `sessions` came, `flags` are
    EXCLUSIVE, LEAVING, SINGLE and CALLERS, `streams` a rough load.
    """

    since: int
    sessions: int
    flags: int = 0
    streams: int = 0


class Claim(NamedTuple):
    """What a replica knows of its own agents of a cluster; the newest `came` at this monotonic second."""

    came: float
    sessions: int
    flags: int = 0
    streams: int = 0


class Record(NamedTuple):
    """What a replica says of itself: where its peers dial it, its release, whether it drains."""

    address: str
    release: str = ""
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Beat:
    """A replica lives; with `full` its routes are exactly `changes`, else those change by them (None: gone).

    `seq` counts the beats of this replica that carried something.
    """

    replica: str
    seq: int
    record: Record
    full: bool
    changes: Mapping[str, Route | None]


@dataclass(frozen=True, slots=True)
class Gone:
    """A replica has ended."""

    replica: str


class Wrong(ValueError):
    """A message that cannot be used; `replica` is whom it names, if it names one."""

    def __init__(self, why: str, replica: str | None = None) -> None:
        super().__init__(why)
        self.replica = replica


# ── writing ────────────────────────────────────────────────────────────────────────────────────────


def hash_entry(seq: int, record: Record) -> str:
    """The field `""` of a replica's hash."""
    return f"{seq} {_encode(_record(record))}"


def route_entry(route: Route | None) -> str:
    """A route's field in a replica's hash; empty for none, which deletes it."""
    return "" if route is None else _encode(route)


def beat_message(beat: Beat) -> str:
    """A beat as the feed carries it."""
    message: dict[str, Any] = {"r": beat.replica, "s": beat.seq, **_record(beat.record)}
    if beat.full:
        message["f"] = True
    if beat.changes:
        message["c"] = beat.changes
    return _encode(message)


def gone_message(replica: str) -> str:
    """The last word of a replica, as the feed carries it."""
    return _encode({"r": replica, "gone": True})


def _record(record: Record) -> dict[str, object]:
    return {"a": record.address, "n": record.release, "l": record.leaving}


# ── reading ────────────────────────────────────────────────────────────────────────────────────────


def read_message(data: object) -> Beat | Gone:
    """What a message of the feed says; raises Wrong."""
    message = _loads(data)
    if not isinstance(message, dict):
        raise Wrong("a message is no object")
    replica = message.get("r")
    if not is_replica(replica):
        raise Wrong("a message names no replica")
    if message.get("gone") is True:
        return Gone(replica)
    try:
        changes = message.get("c", {})
        if not isinstance(changes, dict) or len(changes) > MOST_FIELDS:
            raise ValueError("its changes are none")
        return Beat(
            replica,
            _number(message.get("s")),
            _read_record(message),
            message.get("f") is True,
            {_cluster(name): None if value is None else _route(value) for name, value in changes.items()},
        )
    except ValueError as error:
        raise Wrong(str(error), replica) from None


def read_hash(fields: Mapping[bytes, bytes]) -> tuple[int, Record, dict[str, Route]]:
    """A replica's sequence number, record and routes out of its hash; raises ValueError."""
    seq, _, record = _text(fields.get(b"", b"")).partition(" ")
    if not re.fullmatch(r"\d{1,15}", seq, re.ASCII):
        raise ValueError("a hash has no sequence number")
    said = _loads(record)
    if not isinstance(said, dict):
        raise ValueError("a hash has no record")
    routes = {_cluster(_text(name)): _route(_loads(value)) for name, value in fields.items() if name}
    return int(seq), _read_record(said), routes


def is_replica(value: object) -> TypeGuard[str]:
    """Whether something is the id of a replica."""
    return isinstance(value, str) and _is_id(value) is not None


def _loads(data: object) -> Any:
    if not isinstance(data, str | bytes) or len(data) > LARGEST:
        raise Wrong("something is no text, or too long")
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise Wrong("something is no JSON") from None


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < _LARGEST_NUMBER:
        raise ValueError("a number is none, or too large")
    return value


def _cluster(name: str) -> str:
    if not _is_cluster(name):
        raise ValueError("a cluster's name is none")
    return name


def _route(value: object) -> Route:
    if not isinstance(value, list) or not 4 <= len(value) <= 16:
        raise ValueError("a route is none")
    return Route(*map(_number, value[:4]))


def _read_record(said: Mapping[str, object]) -> Record:
    address, release = said.get("a"), said.get("n", "")
    if not isinstance(address, str) or not _is_address(address):
        raise ValueError("an address is none")
    if not isinstance(release, str) or not _is_release(release):
        raise ValueError("a release is none")
    return Record(address, release, said.get("l") is True)
