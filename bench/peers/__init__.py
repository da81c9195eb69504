"""What others use for the same task, as subjects beside argotun: one file each, which knows how to start it.

Each carries the same requests to the same upstream. What a peer leaves out (HTTP, TLS to the API) is in the
words of its subject, for a comparison without them would be unfair to the others.
"""

from collections.abc import Callable

from bench.figures import FLOOR
from bench.peers import chisel, frp, konnectivity, nginx, programs, rathole, remotedialer
from bench.subject import Ground, Running, Subject

_RAW = "a tunnel of TCP: no HTTP, no TLS to the API"

_BUILT: tuple[tuple[str, str, Callable[[], str], Callable[[Ground, str], Running]], ...] = (
    (
        "remotedialer",
        "Rancher's: mutual TLS on the tunnel, TLS to the API",
        programs.remotedialer,
        remotedialer.start,
    ),
    ("frp", f"{_RAW}, mutual TLS on the tunnel", programs.frp, frp.start),
    ("rathole", f"{_RAW}, TLS on the tunnel", programs.rathole, rathole.start),
    (
        "chisel",
        f"{_RAW}, SSH in mutual TLS on the tunnel",
        programs.chisel,
        chisel.start,
    ),
    (
        "konnectivity",
        f"{_RAW}, gRPC with mutual TLS on the tunnel, HTTP CONNECT before it",
        programs.konnectivity,
        konnectivity.start,
    ),
)


def at_hand() -> tuple[list[Subject], dict[str, str]]:
    """The peers that can be measured here, and why each other one is left out."""
    found = [Subject(FLOOR, "two proxies in C, mutual TLS between, TLS to the API: no tunnel", nginx.start)]
    left_out: dict[str, str] = {}
    for name, says, program, start in _BUILT:
        try:
            found.append(_subject(name, says, program(), start))
        except programs.NotAtHand as why:
            left_out[name] = str(why)
    return found, left_out


def _subject(name: str, says: str, program: str, start: Callable[[Ground, str], Running]) -> Subject:
    return Subject(name, says, lambda ground: start(ground, program))
