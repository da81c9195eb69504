"""The agent's tokens, which its kubelet renews while requests go on. Takes ten minutes."""

import base64
import json
from datetime import datetime
from pathlib import Path
from time import time
from typing import Any

import pytest

from tests.e2e.harness.waiting import until
from tests.nodes.client import Client
from tests.nodes.node import AUDIT
from tests.nodes.rig import Pods, Rig, first_process, read

pytestmark = pytest.mark.last(2)

SECONDS = 600
"""That a token is valid, and no API gives one for less. The kubelet renews it when 80 % are over."""

RATE = 20
"""Requests a second."""

FOR_API = "var/run/secrets/kubernetes.io/serviceaccount/token"
FOR_SERVER = "server-token/token"
"""Files of the agent's pod."""


def test_tokens_that_the_kubelet_renews_are_shown_and_no_request_fails(
    rig: Rig, client: Client, server: Pods, agent: Pods
) -> None:
    rig.upgrade("agent", f"--set=saTokenExpirationSeconds={SECONDS},serverToken.expirationSeconds={SECONDS}")
    agent.settle()
    process = first_process(agent.one())
    before, at_server = token(process, FOR_API), token(process, FOR_SERVER)
    for each in (before, at_server):
        assert each["exp"] - each["iat"] == SECONDS
    began = time()
    with client.asking(5, RATE) as found:
        until(
            "the kubelet has renewed the token for the API",
            lambda: after(process, FOR_API, before),
            SECONDS,
            1,
        )
        until("… and that for the server", lambda: after(process, FOR_SERVER, at_server), 60, 1)
        # A dial that shows the new one.
        server.kubectl("rollout", "restart", "deploy/argotun")
        server.settle()
    assert found[0].whole, found[0]
    now = token(process, FOR_API)
    shown = credentials(rig.customer.folder, began)
    assert shown.keys() == {f"JTI={each['jti']}" for each in (before, now)}
    old, new = (shown[f"JTI={each['jti']}"] for each in (before, now))
    assert len(old) + len(new) >= found[0].total
    # Requests that were on their way at the same time.
    assert max(old) < min(new) + 1


def token(process: int, path: str) -> dict[str, Any]:
    """What a token of the agent's says of itself."""
    said = read(Path("/proc", str(process), "root", path)).split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(said + "=" * (-len(said) % 4)))
    return found


def after(process: int, path: str, before: dict[str, Any]) -> bool:
    """Whether the file holds another token than `before`."""
    return bool(token(process, path)["jti"] != before["jti"])


def credentials(folder: Path, since: float) -> dict[str, list[float]]:
    """The tokens by which the agent has asked its API since then, and when, by what that has noted down."""
    found: dict[str, list[float]] = {}
    for path in folder.glob(f"{Path(AUDIT).stem}*.log"):
        for line in path.read_text().splitlines():
            event = json.loads(line)
            at = datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp()
            if at >= since:
                (shown,) = event["user"]["extra"]["authentication.kubernetes.io/credential-id"]
                found.setdefault(shown, []).append(at)
    return found
