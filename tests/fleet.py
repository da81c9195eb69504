"""What `/status` says: of a server with so many clusters, of one with replicas, and of an agent."""

from typing import Any

DAY = 86400


def agent_of(number: int, /, **more: Any) -> dict[str, Any]:
    """One tunnel in a server's status."""
    return {
        "peer": f"10.{number // 250}.{number % 250}.7:40000",
        "release": "0.4.1",
        "version": 2,
        "target": "kubernetes.default.svc:443",
        "streams": number % 300,
        "rttSeconds": 0.012,
        "connectedSeconds": 11100.0,
        "draining": False,
        "certificateSeconds": 60 * DAY,
    } | more


def refusal(why: str = "the token is not known", count: int = 1, peer: str = "203.0.113.9") -> dict[str, Any]:
    """One refusal in a server's history."""
    return {"secondsAgo": 33.0, "peer": peer, "why": why, "count": count}


def past(**more: Any) -> dict[str, Any]:
    """What a server knows of one cluster."""
    kinds = ("lastRefusal", "lastClaim", "lastAttempt")
    return {"lastSeenSeconds": 0.0, "lastEnd": "", **dict.fromkeys(kinds), **more}


def server(clusters: int, /, lost: int = 0, **more: Any) -> dict[str, Any]:
    """A server's status on its internal port; the first `lost` clusters have no agent."""
    names = [f"customer-{number:04}" for number in range(clusters)]
    return {
        "mode": "server",
        "version": "0.4.1",
        "uptimeSeconds": 350000.0,
        "draining": False,
        "connections": 431,
        "certificates": {"certificate": {"ends": "2027-02-01T00:00:00Z", "secondsLeft": 80 * DAY}},
        "clusters": {name: [agent_of(number)] if number >= lost else [] for number, name in enumerate(names)},
        "history": {name: past() for name in names},
        "traffic": {
            name: {
                "toClusterBytesPerSecond": 1500,
                "fromClusterBytesPerSecond": 2_000_000,
                "takeovers": number % 3,
            }
            for number, name in enumerate(names)
        },
        "strangers": [],
        "callers": {"argocd": {"connections": 420, "requests": 123456, "refused": 0}},
    } | more


def replicas(**more: Any) -> dict[str, Any]:
    """What a server among others says beside that."""
    other = {"release": "0.4.1", "leaving": False, "clusters": 9, "heardSecondsAgo": 0.2}
    link = {"suspect": False, "draining": False, "streams": 3, "rttSeconds": 0.0004, "problem": ""}
    return {
        "replica": "a1b2c3d4",
        "registry": {
            "up": True,
            "heardSecondsAgo": 0.3,
            "replicas": {
                "ffee0011": {"address": "10.0.0.8:8444", **other},
                "77aa0022": {"address": "10.0.0.9:8444", **other},
            },
        },
        "links": [
            {"replica": "ffee0011", "address": "10.0.0.8:8444", "up": True, **link},
            {"replica": "77aa0022", "address": "10.0.0.9:8444", "up": True, **link},
        ],
        "elsewhere": {},
    } | more


def agent(**more: Any) -> dict[str, Any]:
    """An agent's status."""
    return {
        "mode": "agent",
        "version": "0.4.1",
        "uptimeSeconds": 4000.0,
        "server": "wss://tunnel.example.com/connect",
        "target": "kubernetes.default.svc:443",
        "connected": True,
        "draining": False,
        "lastError": "",
        "attempts": 0,
        "nextTrySeconds": 0.0,
        "apiReachable": True,
        "apiVersion": "v1.36.3",
        "apiProblem": "",
        "toClusterBytesPerSecond": 2300,
        "fromClusterBytesPerSecond": 3_100_000,
        "apiSinceSeconds": 700.0,
        "policy": {"file": "/etc/policy.yaml", "rules": 2, "problem": "", "refusals": {"no-secrets": 7}},
        "certificates": {"certificate": {"ends": "2027-02-01T00:00:00Z", "secondsLeft": 80 * DAY}},
        "tunnels": [{"version": 2, "streams": 3, "rttSeconds": 0.02, "connectedSeconds": 3900.0}],
    } | more
