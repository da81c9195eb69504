"""A stand-in API on a real socket, and a client for it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from argotun.demo.standin import StandIn


class Http:
    """Requests to a stand-in API; JSON in, JSON out."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.session = requests.Session()
        self.session.trust_env = False

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> requests.Response:
        data = body if isinstance(body, (bytes, str, type(None))) else json.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if data is not None:
            named.setdefault("Content-Type", "application/json")
        return self.session.request(method, self.base + path, data=data, headers=named, timeout=10)

    def ok(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        answer = self.send(method, path, body, **headers)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def refused(
        self, code: int, reason: str, method: str, path: str, body: Any = None, **headers: str
    ) -> Any:
        """The Status of a request that must be refused."""
        answer = self.send(method, path, body, **headers)
        status = answer.json()
        assert (answer.status_code, status["kind"], status["reason"], status["code"]) == (
            code,
            "Status",
            reason,
            code,
        ), answer.text
        return status

    def watch(self, path: str, **headers: str) -> Iterator[dict[str, Any]]:
        """The events of a watch; ends when the API ends it, fails when it is silent for ten seconds."""
        answer = self.session.get(self.base + path, headers=headers, stream=True, timeout=10)
        assert answer.status_code == 200, answer.text
        try:
            for line in filter(None, answer.iter_lines(chunk_size=1)):
                yield json.loads(line)
        finally:
            answer.close()


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    api = StandIn(ready_after=0.01)
    api.start()
    yield api
    api.stop()


@pytest.fixture
def http(stand_in: StandIn) -> Http:
    host, port = stand_in.address
    return Http(f"http://{host}:{port}")
