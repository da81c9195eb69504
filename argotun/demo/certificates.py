"""Certificates for one demo run, where the machine has what makes them.

They live for a day, in a folder that is removed when the demo ends; their keys are readable by nobody else.
"""

from dataclasses import dataclass
from pathlib import Path

from argotun.errors import ArgotunError
from argotun.pki.openssl import CLIENT, SERVER, Authority, KeyPair

AGENT_NAME = "argotun-demo-agent"
"""The name in the agent's certificate."""

_LOOPBACK = ("127.0.0.1", "localhost")


@dataclass(frozen=True, slots=True)
class Certificates:
    """One CA (the path of its certificate), and a pair for the server, the agent and the stand-in API."""

    ca: str
    server: KeyPair
    agent: KeyPair
    api: KeyPair


def make(folder: Path) -> Certificates | None:
    """Make all of them in `folder`; None where there is no openssl, or it cannot do it."""
    try:
        authority = Authority(folder)
        authority.make("argotun demo CA", days=1)

        def pair(name: str, subject: str, usage: str, *names: str) -> KeyPair:
            made = KeyPair(str(folder / f"{name}.crt"), str(folder / f"{name}.key"))
            authority.issue(made, subject, usage, names)
            return made

        return Certificates(
            authority.cert,
            server=pair("server", "argotun demo server", SERVER, *_LOOPBACK),
            agent=pair("agent", AGENT_NAME, CLIENT, AGENT_NAME),
            api=pair("api", "argotun stand-in API", SERVER, *_LOOPBACK),
        )
    except ArgotunError:
        return None
