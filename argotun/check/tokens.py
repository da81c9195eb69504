"""Tokens: where one comes from, and when it ends where it says so; nothing of the token itself is shown."""

from time import time

from argotun.check.certificates import span
from argotun.check.steps import Walk
from argotun.config import AgentConfig
from argotun.server.accounts import segment


def origin(config: AgentConfig) -> str:
    """Where the token for the server comes from."""
    if config.server_token_path is not None:
        return f"--server-token-path {config.server_token_path}"
    return f"--token-file {config.token_file}" if config.token_file is not None else "--token"


def look(walk: Walk, step: str, token: bytes, where: str) -> None:
    """Tell of a token by its own words about its end, which only a signed one has (RFC 7519 §4.1.4)."""
    parts = token.split(b".")
    claims = segment(parts[1]) if len(parts) == 3 else {}
    end, begin = (_time(claims.get(name)) for name in ("exp", "nbf"))
    if end is not None and end < time():
        walk.fail(
            step,
            f"the token of {where} ended {span(time() - end)} ago",
            "the kubelet renews a token in a projected volume; make one that was made by hand anew, or set "
            "this machine's clock",
        )
    elif begin is not None and begin > time() + 1:
        walk.fail(
            step,
            f"the token of {where} is valid in {span(begin - time())} only",
            "set this machine's clock",
        )
    elif end is not None:
        walk.ok(step, f"the token of {where} ends in {span(end - time())}")
    else:
        walk.ok(step, f"there is a token, by {where}")


def _time(claim: object) -> float | None:
    return float(claim) if isinstance(claim, int | float) else None
