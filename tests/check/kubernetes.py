"""A scripted API that answers what a check asks: a version, who somebody is, and what they may do."""

import json
from collections.abc import Callable
from typing import Any

from tests.rig import Api, Peer

USER = "system:serviceaccount:argotun:agent"


def everything(wanted: dict[str, Any]) -> bool:
    """To somebody who may do all."""
    return True


def nothing(wanted: dict[str, Any]) -> bool:
    """To somebody who may do nothing."""
    return False


def kubernetes(
    may: Callable[[dict[str, Any]], bool] = everything, user: str = USER, status: int = 200
) -> Api:
    """An API where `may` decides by a review's resourceAttributes; `status` is that of each answer."""

    def script(peer: Peer) -> None:
        while True:
            head = peer.head()
            api.heads.append(head)
            length = next(
                (
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.startswith(b"Content-Length")
                ),
                0,
            )
            asked = json.loads(peer.read(length)) if length else {}
            if head.startswith(b"GET /version "):
                said: dict[str, Any] = {"gitVersion": "v1.36.3"}
            elif asked.get("kind") == "SelfSubjectReview":
                said = {"status": {"userInfo": {"username": user, "groups": ["system:authenticated"]}}}
            else:
                said = {"status": {"allowed": may(asked["spec"]["resourceAttributes"])}}
            body = json.dumps(said).encode()
            peer.send(
                b"HTTP/1.1 %d Said\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (status, len(body), body)
            )

    api = Api(script)
    return api
