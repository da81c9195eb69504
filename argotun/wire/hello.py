"""HELLO: what each side of a version 2 tunnel says of itself before anything else."""

import json
from dataclasses import dataclass

from argotun.errors import ProtocolError
from argotun.wire.frames import INITIAL_WINDOW, KIB, MAX_CREDIT

MAX_HELLO = 16 * 1024
"""The longest HELLO, bytes: a few names and numbers, with room for later releases."""

MAX_TEXT = 512
"""The longest text in a HELLO, characters: a host name has at most 253."""


CONNECTED_TO = "Argotun-Connected"
"""The header of an agent's upgrade that lists the replicas to which it has tunnels, by their ids."""

MOST_CONNECTED = 16
"""Ids that are read of it."""

MIN_SHARE = 4 * KIB
"""The least share of a stream, bytes: a request's head and a little more."""


@dataclass(frozen=True, slots=True)
class Hello:
    """One side's words: its release, the credit of a new stream, its limits, target and cluster.

    `window` is in bytes, `max_streams` counts streams at once (0 = no limit stated). `target` is
    `host:port`: on the agent's side the one that it serves, on the server's the one that the
    clusters file names, if it does. `cluster` is the id that the server knows the agent by, `instance` what
    the agent's process calls itself, the same on all its tunnels. `share`
    and `pool` are the bytes that each stream and all together may have under way; see credit.py. A
    pool of 0 says that the sender knows of none. `reasons` says that it knows the codes of reasons.py,
    `callers` that it understands `Argotun-Caller`: an agent passes none on, a server none of its clients'.
    `lingers` says that it serves on after its own GOAWAY until it is told that another tunnel has taken over,
    and that it tells its peer so.
    `replica` is the id of a server that knows others, and `replicas` how many there are, itself too: to an
    agent of which another tunnel is of use. On a link between replicas `prefix` names the installation.
    """

    release: str = ""
    window: int = INITIAL_WINDOW
    max_streams: int = 0
    target: str = ""
    cluster: str = ""
    pool: int = 0
    share: int = MIN_SHARE
    reasons: bool = False
    callers: bool = False
    instance: str = ""
    lingers: bool = False
    replica: str = ""
    replicas: int = 0
    prefix: str = ""

    def encode(self) -> bytes:
        """The payload of the frame: compact JSON."""
        return json.dumps(
            {
                "version": 2,
                "release": self.release,
                "window": self.window,
                "maxStreams": self.max_streams,
                "target": self.target,
                "cluster": self.cluster,
                "instance": self.instance,
                "replica": self.replica,
                "replicas": self.replicas,
                **({"prefix": self.prefix} if self.prefix else {}),
                "pool": self.pool,
                "share": self.share,
                "reasons": self.reasons,
                "callers": self.callers,
                "lingers": self.lingers,
            },
            separators=(",", ":"),
        ).encode()


def ample(streams: int) -> int:
    """Of so many streams at most, the number from which on only the last tenth is left."""
    return streams - max(1, streams // 10)


def decode(payload: bytes) -> Hello:
    """A peer's HELLO; keys that are not known here are ignored. ProtocolError when it is unusable."""
    if len(payload) > MAX_HELLO:
        raise ProtocolError(f"HELLO of {len(payload)} bytes is over {MAX_HELLO}")
    try:
        said = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("HELLO is not JSON") from error
    if not isinstance(said, dict):
        raise ProtocolError("HELLO is not a JSON object")
    return Hello(
        release=_text(said, "release"),
        window=_number(said, "window", INITIAL_WINDOW, least=1),
        max_streams=_number(said, "maxStreams", 0, least=0),
        target=_text(said, "target"),
        cluster=_text(said, "cluster"),
        instance=_text(said, "instance"),
        replica=_text(said, "replica"),
        replicas=_number(said, "replicas", 0, least=0),
        prefix=_text(said, "prefix"),
        pool=_number(said, "pool", 0, least=0),
        share=_number(said, "share", MIN_SHARE, least=1),
        reasons=_flag(said, "reasons"),
        callers=_flag(said, "callers"),
        lingers=_flag(said, "lingers"),
    )


def _text(said: dict[str, object], key: str) -> str:
    value = said.get(key, "")
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise ProtocolError(f"HELLO has an unusable {key}")
    return value


def _flag(said: dict[str, object], key: str) -> bool:
    value = said.get(key, False)
    if not isinstance(value, bool):
        raise ProtocolError(f"HELLO has an unusable {key}")
    return value


def _number(said: dict[str, object], key: str, default: int, least: int) -> int:
    value = said.get(key, default)
    if type(value) is not int or not least <= value <= MAX_CREDIT:
        raise ProtocolError(f"HELLO has an unusable {key}")
    return value
