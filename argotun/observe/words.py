"""Numbers of a `/status` as a person reads them, and what in it is not as it should be, in sentences.

Pure. What is read came as JSON, perhaps from another release, or from something that is no argotun: whatever
is missing or of another type counts as not said.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import isfinite
from typing import Any, TypeGuard

from argotun.expiry import SOON

LATELY = 3600.0
"""Seconds for which a refusal brings its cluster before those of which nothing is to be said."""

_SPANS = ((86400 * 365, "y"), (86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")

Said = Mapping[str, Any]


def is_number(said: object) -> TypeGuard[int | float]:
    """Whether this can be reckoned with."""
    return isinstance(said, int | float) and isfinite(said)


def span(seconds: object) -> str:
    """A time as its two largest units, `3 h 5 min`; – for none."""
    if not is_number(seconds):
        return "–"
    left = int(abs(seconds))
    for (unit, name), (smaller, its_name) in pairwise(_SPANS):
        if left >= unit:
            count, rest = divmod(left, unit)
            return f"{count} {name}" + (f" {rest // smaller} {its_name}" if rest >= smaller else "")
    return f"{left} s"


def ago(seconds: object) -> str:
    """How long ago something was; "never" where it was not."""
    return f"{span(seconds)} ago" if is_number(seconds) else "never"


def size(count: object) -> str:
    """Bytes, `1.5 MiB`."""
    if not is_number(count):
        return "–"
    value, at = float(count), 0
    while value >= 1000 and at < len(_SIZES) - 1:
        value, at = value / 1024, at + 1
    return f"{value:.0f} {_SIZES[at]}" if at == 0 or value >= 10 else f"{value:.1f} {_SIZES[at]}"


def milliseconds(seconds: object) -> str:
    """A round trip, `12 ms`; – before there was one."""
    if not is_number(seconds) or not seconds:
        return "–"
    value = seconds * 1000
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def plural(count: int, one: str, more: str = "") -> str:
    """`1 cluster`, `2 clusters`."""
    return f"{count} {one if count == 1 else more or one + 's'}"


def ending(seconds: object) -> str:
    """When a certificate ends: `in 12 d`, `3 h ago`; – where nobody knows."""
    if not is_number(seconds):
        return "–"
    return f"in {span(seconds)}" if seconds > 0 else f"{span(seconds)} ago"


def mapping(said: object) -> Said:
    """What should be a JSON object, empty where it is none."""
    return said if isinstance(said, Mapping) else {}


def entries(said: object) -> list[Said]:
    """The objects of what should be a list of them."""
    if not isinstance(said, Sequence) or isinstance(said, str):
        return []
    return [each for each in said if isinstance(each, Mapping)]


def by_need(status: Said, clusters: Said) -> list[str]:
    """The clusters of a server's status: without any agent, otherwise wrong, lately refused, the rest."""
    elsewhere, history = mapping(status.get("elsewhere")), mapping(status.get("history"))

    def rank(name: str) -> tuple[int, str]:
        agents = clusters[name]
        if not agents and name not in elsewhere:
            return 0, name
        if any(of_cluster(status, name, entries(agents))):
            return 1, name
        return 2 if _is_lately_refused(mapping(history.get(name))) else 3, name

    return sorted(clusters, key=rank)


def _is_lately_refused(history: Said) -> bool:
    found = [mapping(history[kind]).get("secondsAgo") for kind in REFUSALS if history.get(kind)]
    return any(is_number(seconds) and seconds < LATELY for seconds in found)


def release(agent: Said) -> str:
    """Which argotun an agent is, or which version it speaks where it does not say."""
    return agent.get("release") or f"version {agent.get('version')}"


def is_agent(status: Said) -> bool:
    """Whether this is an agent's status; else it is a server's."""
    return "tunnels" in status


def last_words(history: Said) -> Iterator[str]:
    """What is known of a cluster's agents beside the tunnels that are up: end and refusals, in sentences."""
    if history.get("lastEnd"):
        yield f"last end: {history['lastEnd']}"
    for kind, said in REFUSALS.items():
        refusal = mapping(history.get(kind))
        if refusal:
            times = f", {plural(refusal['count'], 'time')}" if refusal.get("count", 0) != 1 else ""
            when, peer = ago(refusal.get("secondsAgo")), refusal.get("peer")
            yield f"{said} {when} from {peer}{times}: {refusal.get('why')}"


REFUSALS = {
    "lastRefusal": "refused",
    "lastClaim": "somebody who names this cluster was refused",
    "lastAttempt": "from its last address somebody was refused",
}
"""How each kind of refusal is told; what they mean is in `server/history.py`."""


def totals(status: Said) -> dict[str, object]:
    """The numbers that stand on top, by their names."""
    return _totals_of_agent(status) if is_agent(status) else _totals_of_server(status)


def _totals_of_server(status: Said) -> dict[str, object]:
    clusters = status.get("clusters")
    if not isinstance(clusters, Mapping):
        return {
            "clusters connected": f"{status.get('connected')} of {clusters}",
            "agents": status.get("agents"),
            "connections": status.get("connections"),
        }
    agents = [agent for each in clusters.values() for agent in entries(each)]
    elsewhere = mapping(status.get("elsewhere"))
    traffic = [mapping(each) for each in mapping(status.get("traffic")).values()]
    reached = sum(bool(each) or name in elsewhere for name, each in clusters.items())
    return {
        "clusters connected": f"{reached} of {len(clusters)}",
        "agents": len(agents),
        "streams": sum(agent.get("streams", 0) for agent in agents),
        "to clusters": f"{size(sum(each.get('toClusterBytesPerSecond', 0) for each in traffic))}/s",
        "from clusters": f"{size(sum(each.get('fromClusterBytesPerSecond', 0) for each in traffic))}/s",
        "connections": status.get("connections"),
    }


def reachable(said: object) -> str:
    """Whether an agent's API can be asked, in words."""
    return "not asked yet" if not isinstance(said, bool) else "reachable" if said else "not reachable"


def _totals_of_agent(status: Said) -> dict[str, object]:
    return {
        "tunnel": "up" if status.get("connected") else "down",
        "streams": sum(tunnel.get("streams", 0) for tunnel in entries(status.get("tunnels"))),
        "Kubernetes API": reachable(status.get("apiReachable")),
        "to the cluster": f"{size(status.get('toClusterBytesPerSecond', 0))}/s",
        "from the cluster": f"{size(status.get('fromClusterBytesPerSecond', 0))}/s",
    }


def troubles(status: Said) -> list[str]:
    """What is not as it should be, a sentence each; empty where all is well."""
    found = list(_of_agent(status) if is_agent(status) else _of_server(status))
    found += [
        f"its {name} {_ends(mapping(each).get('secondsLeft'))}"
        for name, each in mapping(status.get("certificates")).items()
        if _is_soon(mapping(each).get("secondsLeft"))
    ]
    return ["it drains: it is about to end", *found] if status.get("draining") else found


def _of_agent(status: Said) -> Iterator[str]:
    if not status.get("connected"):
        why = status.get("lastError") or "no attempt has ended yet"
        facts = (
            f"{plural(status.get('attempts') or 0, 'attempt')}, next in {span(status.get('nextTrySeconds'))}"
        )
        yield f"there is no tunnel to the server: {why} ({facts})"
    if status.get("apiReachable") is False:
        since = span(status.get("apiSinceSeconds"))
        yield f"the Kubernetes API cannot be asked for {since}: {status.get('apiProblem')}"
    if problem := mapping(status.get("policy")).get("problem"):
        yield f"the policy file cannot be used, the one before stays in force: {problem}"


def _of_server(status: Said) -> Iterator[str]:
    clusters = status.get("clusters")
    if isinstance(clusters, int):
        missing = clusters - (status.get("connected") or 0)
        if missing > 0:
            have = "has" if missing == 1 else "have"
            yield f"{missing} of {plural(clusters, 'cluster')} {have} no agent here"
    for name, agents in mapping(clusters).items():
        yield from of_cluster(status, name, entries(agents))
    registry = mapping(status.get("registry"))
    if registry and not registry.get("up"):
        yield "the registry of replicas is down: what is known of the others stays in use"
    for link in entries(status.get("links")):
        if not link.get("up") and not link.get("draining"):
            yield f"there is no link to replica {link.get('address')}: {link.get('problem') or 'not yet'}"


def of_cluster(status: Said, name: str, agents: Sequence[Said]) -> Iterator[str]:
    """What is wrong with one cluster of a server's status."""
    if not agents and not mapping(status.get("elsewhere")).get(name):
        seen = mapping(mapping(status.get("history")).get(name)).get("lastSeenSeconds")
        since = "none was here since the server started" if seen is None else f"the last was here {ago(seen)}"
        yield f"cluster {name} has no agent: {since}"
    for agent in agents:
        if _is_soon(agent.get("certificateSeconds")):
            yield f"the certificate of {name}'s agent {_ends(agent.get('certificateSeconds'))}"


def _is_soon(seconds: object) -> bool:
    return is_number(seconds) and seconds < SOON


def _ends(seconds: Any) -> str:
    return f"{'ends' if seconds > 0 else 'ended'} {ending(seconds)}"
