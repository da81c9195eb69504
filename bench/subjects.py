"""Who is measured: nginx alone, argotun with different hops encrypted, and the peers that are at hand."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import registry
from bench.certificates import AGENT_NAME
from bench.errors import BenchError
from bench.ports import free_port
from bench.subject import Ground, Running, Subject, ready

CLUSTER = "bench"
TOKEN = "token-of-the-bench"
CLONE = Path(__file__).resolve().parent.parent
OWN_PROGRAM = CLONE / "argotun.py"
OWN = "--"  # what stands before an option of argotun
MAX_STREAMS = "8192"  # more than any load here opens


@dataclass(frozen=True)
class Hops:
    """Which hops are encrypted, and how the tunnel's agent is checked."""

    tunnel: bool = True
    client_certificates: bool = True
    internal: bool = False
    api: bool = True


MUTUAL = Hops()
# wrk cannot present a client certificate, and argotun has one client CA for both ports: without it here.
INTERNAL_TLS = Hops(internal=True, client_certificates=False)
PLAIN = Hops(tunnel=False, client_certificates=False, api=False)


def available(against: Path | None) -> list[Subject]:
    """All subjects of this machine; `against` = another clone's argotun.py, measured beside this one."""
    subjects = [
        Subject("direct", "nginx alone, TLS", _start_direct, crowd="there is no tunnel"),
        Subject("argotun", "mutual TLS on the tunnel, TLS to the API", _argotun(MUTUAL), idle=True),
        Subject(
            *("argotun-log", "the same with the access log", _argotun(MUTUAL, access_log=True)),
            connections=(64,),
            bulk=False,
        ),
        Subject("argotun-internal-tls", "TLS on the internal port too", _argotun(INTERNAL_TLS), idle=True),
        Subject("argotun-plain", "no hop encrypted", _argotun(PLAIN), standard=False),
    ]
    if against is not None:
        subjects.append(
            Subject("against", f"as argotun, from {against}", _argotun(MUTUAL, program=against), idle=True)
        )
    seed = _seed_binaries()
    if registry.missing() is None:
        subjects.append(Subject("hop", "as argotun, client and agent at different replicas", _start_hop))
    if seed is not None:
        subjects += [
            Subject("seed", "the seed system, TLS on every hop", _seed(INTERNAL_TLS, *seed), idle=True),
            Subject("seed-plain", "the seed system, no hop encrypted", _seed(PLAIN, *seed), standard=False),
        ]
    return subjects


def choose(subjects: list[Subject], names: list[str]) -> list[Subject]:
    """The named subjects, or the standard ones where none is named."""
    if not names:
        return [subject for subject in subjects if subject.standard]
    known = {subject.name: subject for subject in subjects}
    for name in names:
        if name not in known:
            raise BenchError(f"no subject is called {name!r}: choose from {', '.join(known)}")
    return [subject for subject in subjects if subject.name in names]


def start(
    ground: Ground,
    options: Sequence[str] = (),
    agent_options: Sequence[str] = (),
    server_options: Sequence[str] = (),
) -> Running:
    """The subject `argotun`, for a benchmark of its own; `options` are given to both roles."""
    return _start_pair(
        ground,
        MUTUAL,
        server_command=[sys.executable, str(OWN_PROGRAM), "--mode", "server"],
        agent_command=[sys.executable, str(OWN_PROGRAM), "--mode", "agent"],
        options=OWN,
        server_extra=["--internal-plain", *_access_log(False), *options, *server_options],
        agent_extra=[*_access_log(False), *options, *agent_options],
    )


def _start_direct(ground: Ground) -> Running:
    return Running(url=f"https://{ground.via(ground.upstream.tls)}")


def _argotun(
    hops: Hops, *, access_log: bool = False, program: Path = OWN_PROGRAM
) -> Callable[[Ground], Running]:
    return lambda ground: _start_pair(
        ground,
        hops,
        server_command=[sys.executable, str(program), "--mode", "server"],
        agent_command=[sys.executable, str(program), "--mode", "agent"],
        options=OWN,
        server_extra=[*([] if hops.internal else ["--internal-plain"]), *_access_log(access_log)],
        agent_extra=_access_log(access_log),
    )


def _start_hop(ground: Ground) -> Running:
    """As `argotun`, with another replica for the clients, `ingress`; the agent is at `server`."""
    shared = registry.Registry(ground.site)
    program = [sys.executable, str(OWN_PROGRAM)]
    running = start(ground, server_options=shared.options)
    internal, public = (f"127.0.0.1:{free_port()}" for _ in range(2))
    clusters = ground.site.write("ingress.json", [{"id": CLUSTER, "token": TOKEN}])
    options = {"addr": public, "internal-addr": internal, "clusters": clusters}
    options |= {"tls-cert": ground.certificates.server, "tls-key": ground.certificates.server_key}
    command = [*program, "--mode", "server", "--internal-plain", *_access_log(False), *shared.options]
    ingress = ground.site.start("ingress", [*command, *_named(OWN, options)])
    children = {"ingress": ingress, **running.children, "redis": shared.child}
    url = f"http://{internal}/tunnel/{CLUSTER}"
    return ready(ground, Running(url=url, children=children))


def _access_log(enabled: bool) -> list[str]:
    return [] if enabled else ["--no-access-log"]


def _seed(hops: Hops, server: Path, agent: Path) -> Callable[[Ground], Running]:
    return lambda ground: _start_pair(
        ground, hops, server_command=[str(server)], agent_command=[str(agent)], options="-"
    )


def _seed_binaries() -> tuple[Path, Path] | None:
    """The seed system's server and agent from the environment."""
    paths = [os.environ.get(name, "") for name in ("BENCH_SEED_SERVER", "BENCH_SEED_AGENT")]
    if not any(paths):
        return None
    if not all(paths):
        raise BenchError("BENCH_SEED_SERVER and BENCH_SEED_AGENT belong together: only one of them is set")
    for path in paths:
        if not os.access(path, os.X_OK):
            raise BenchError(f"{path} is not a program that can be run")
    return Path(paths[0]).resolve(), Path(paths[1]).resolve()


def _start_pair(
    ground: Ground,
    hops: Hops,
    *,
    server_command: list[str],
    agent_command: list[str],
    options: str,
    server_extra: list[str] | None = None,
    agent_extra: list[str] | None = None,
) -> Running:
    """Start a server and its agent and wait until a request goes through.

    argotun kept the seed system's option names, so that one list serves both; `options` is what stands
    before a name.
    """
    site, certificates = ground.site, ground.certificates
    public, internal, health = (f"127.0.0.1:{free_port()}" for _ in range(3))
    target = ground.upstream.tls if hops.api else ground.upstream.plain
    entry: dict[str, object] = {"id": CLUSTER, "token": TOKEN, "targetAddr": target}
    if hops.client_certificates:
        entry["certNames"] = [AGENT_NAME]
    clusters = site.write("clusters.json", [entry])
    account_token = site.write("account-token", "account-token")

    server = {"addr": public, "internal-addr": internal, "clusters": clusters, "log-level": "info"}
    agent = {
        "server": f"{'wss' if hops.tunnel else 'ws'}://{ground.via(public)}/connect",
        "token": TOKEN,
        "target": target,
        "sa-token-path": account_token,
        "health-addr": health,
        "max-retry": "1s",
    }
    flags = []
    if options == OWN:
        # The seed system has no such option, and ends where it meets one that it does not know.
        agent["max-conns"] = MAX_STREAMS
    if hops.tunnel:
        server |= {"tls-cert": certificates.server, "tls-key": certificates.server_key}
        agent |= {"server-ca-cert": certificates.ca}
    else:
        flags.append(f"{options}allow-insecure-server")
    if hops.client_certificates:
        server |= {"tls-client-ca": certificates.ca}
        agent |= {"client-cert": certificates.agent, "client-key": certificates.agent_key}
    if hops.api:
        agent |= {"ca-cert": certificates.ca}
    else:
        flags.append(f"{options}plain-target")

    children = {
        "server": site.start("server", [*server_command, *_named(options, server), *(server_extra or [])]),
        "agent": site.start("agent", [*agent_command, *_named(options, agent), *flags, *(agent_extra or [])]),
    }
    url = f"{'https' if hops.internal else 'http'}://{internal}/tunnel/{CLUSTER}"
    return ready(ground, Running(url=url, children=children))


def _named(options: str, values: dict[str, object]) -> list[str]:
    return [word for name, value in values.items() for word in (f"{options}{name}", str(value))]
