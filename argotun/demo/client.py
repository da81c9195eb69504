"""The demo's own client, in Argo CD's place: requests and watches through the server's internal port."""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import gevent
import requests

from argotun.demo.resources import Json
from argotun.errors import ArgotunError

CLIENT_TOKEN = "argocd-secret"
"""What the client sends as its own bearer token; it must never arrive at the API."""

TIMEOUT = (5.0, 20.0)
"""Seconds to connect, and of silence."""


class Reply(NamedTuple):
    """An answer; `audit_id` is what the request was marked with."""

    code: int
    body: Json
    audit_id: str

    @property
    def message(self) -> str:
        """The message of a Status; "" for any other object."""
        return str(self.body.get("message", ""))


class Event(NamedTuple):
    """One watch event, and when it came (monotonic seconds)."""

    kind: str
    object: Json
    came: float


class Client:
    """Sends to the API at a base URL, always with `Authorization: Bearer argocd-secret`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = requests.Session()
        # Neither a proxy nor a .netrc of this machine has a say in what goes over loopback.
        self._session.trust_env = False
        self._session.headers.update(
            {"Authorization": f"Bearer {CLIENT_TOKEN}", "User-Agent": "argotun-demo"}
        )

    def call(self, method: str, path: str, body: Json | None = None, kind: str = "application/json") -> Reply:
        """One request. Raises ArgotunError where nothing came back that can be read."""
        mark = f"demo-{secrets.token_hex(6)}"
        answer = self._send(method, path, json=body, headers={"Content-Type": kind, "Audit-ID": mark})
        try:
            content = answer.json()
        except (requests.RequestException, ValueError):
            content = {"message": answer.text.strip()}
        return Reply(answer.status_code, content if isinstance(content, dict) else {}, mark)

    @contextmanager
    def watch(self, path: str) -> Iterator["Watch"]:
        """A watch on a list's path, open in the `with`; raises ArgotunError where it is refused."""
        with self._send("GET", path, stream=True) as answer:
            if answer.status_code != 200:
                raise ArgotunError(f"GET {path}: the watch was answered with {answer.status_code}")
            yield Watch(answer.iter_lines(chunk_size=1))

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:
        try:
            return self._session.request(method, self._url + path, timeout=TIMEOUT, **options)
        except requests.RequestException as problem:
            raise ArgotunError(f"{method} {path}: {problem}") from problem


class Watch:
    """The events of one watch, from the lines that it sends."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines

    def until(self, wanted: Callable[[Event], bool], seconds: float) -> list[Event]:
        """Events up to the first one that is wanted; ArgotunError where it does not come in time."""
        came: list[Event] = []
        try:
            with gevent.Timeout(seconds, False):
                for line in filter(None, self._lines):
                    event = json.loads(line)
                    came.append(Event(event["type"], event["object"], time.monotonic()))
                    if wanted(came[-1]):
                        return came
        except (requests.RequestException, ValueError, KeyError) as problem:
            raise ArgotunError(f"the watch broke off: {problem}") from problem
        raise ArgotunError(f"the watch did not show it within {seconds:.0f} s")
