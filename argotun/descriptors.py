"""Descriptors: as many as this process may have, and how many of them each port or stream may use."""

import resource
from logging import Logger
from typing import NamedTuple

KEPT_BACK = 128
"""Descriptors that are no place of a port: the health port's 32 connections, files, the event loop, and
connections that are accepted only to be closed."""

MOST = 1 << 20
"""As many as are asked for where there is no hard limit: the kernel's own (fs.nr_open) is that by default."""


class Limit(NamedTuple):
    """The soft limit as it was found, and as it is now; the hard one."""

    found: int
    soft: int
    hard: int


def raise_limit() -> Limit:
    """Raise the soft limit to the hard one: containers come with 1,024 of a million."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else hard
    if soft not in (wanted, resource.RLIM_INFINITY):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            # A kernel whose own limit is lower: what was found has to do.
            wanted = soft
    return Limit(soft, wanted, hard)


def tell(log: Logger) -> None:
    """Raise the limit, and say what it is; what it was only where that is something else."""
    limit = raise_limit()
    raised = f", was {_shown(limit.found)}" if limit.soft != limit.found else ""
    log.info(
        "descriptors: the soft limit is %s%s; the hard limit is %s",
        _shown(limit.soft),
        raised,
        _shown(limit.hard),
    )


def _shown(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)


def allowed() -> int:
    """How many descriptors this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else soft


def share(limit: int, wanted: int) -> tuple[int, int]:
    """How many of `limit` descriptors an agent's streams may use, and how many what those leave behind.

    Each `wanted`, where there are enough. Where not, an eighth is for connections to the API that only pass
    on their last bytes, and what is kept back serves the health port and a new tunnel.
    """
    free = max(limit - KEPT_BACK, 16)
    streams = min(wanted, free - free // 8)
    return streams, min(wanted, free - streams)


def divide(limit: int, public: int, internal: int) -> tuple[int, int]:
    """How many of `limit` descriptors the public and the internal port may use, of what each would like.

    Where there are too few, the public port, which the internet reaches, has a quarter or what the other one
    leaves; so neither takes from the other, and neither takes what is kept back.
    """
    free = max(limit - KEPT_BACK, 16)
    public = min(public, max(free // 4, free - internal))
    return public, min(internal, free - public)
