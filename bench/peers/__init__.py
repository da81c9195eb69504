"""What others use for the same task, as subjects beside argotun: one file each, which knows how to start it.

Each carries the same requests to the same upstream. What a peer leaves out (HTTP, TLS to the API) is in the
words of its subject, for a comparison without them would be unfair to the others.
"""

from collections.abc import Callable

from bench.crowd import Crowd
from bench.figures import FLOOR
from bench.peers import chisel, frp, konnectivity, nginx, programs, rathole, remotedialer
from bench.subject import Ground, Running, Subject

_RAW = "a tunnel of TCP: no HTTP, no TLS to the API"

_Start = Callable[[Ground, str], Running]
_Crowd = Callable[[Ground, str, int], Crowd]

_BUILT: tuple[tuple[str, str, Callable[[], str], _Start, _Crowd], ...] = (
    (
        "remotedialer",
        "Rancher's: mutual TLS on the tunnel, TLS to the API",
        programs.remotedialer,
        remotedialer.start,
        remotedialer.crowd,
    ),
    ("frp", f"{_RAW}, mutual TLS on the tunnel", programs.frp, frp.start, frp.crowd),
    ("rathole", f"{_RAW}, TLS on the tunnel", programs.rathole, rathole.start, rathole.crowd),
    (
        "chisel",
        f"{_RAW}, SSH in mutual TLS on the tunnel",
        programs.chisel,
        chisel.start,
        chisel.crowd,
    ),
    (
        "konnectivity",
        f"{_RAW}, gRPC with mutual TLS on the tunnel, HTTP CONNECT before it",
        programs.konnectivity,
        konnectivity.start,
        konnectivity.crowd,
    ),
)


def at_hand() -> tuple[list[Subject], dict[str, str]]:
    """The peers that can be measured here, and why each other one is left out."""
    says = "two proxies in C, mutual TLS between, TLS to the API: no tunnel"
    found = [Subject(FLOOR, says, nginx.start, crowd="two proxies have no agents")]
    left_out: dict[str, str] = {}
    for name, says, program, start, crowd in _BUILT:
        try:
            found.append(_subject(name, says, program(), start, crowd))
        except programs.NotAtHand as why:
            left_out[name] = str(why)
    return found, left_out


def _subject(name: str, says: str, program: str, start: _Start, crowd: _Crowd) -> Subject:
    return Subject(
        name,
        says,
        lambda ground: start(ground, program),
        crowd=lambda ground, count: crowd(ground, program, count),
    )
