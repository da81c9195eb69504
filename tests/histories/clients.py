"""Clients that compare-and-swap one ConfigMap and watch it, and keep what they were told as a history.

Each attempt has a token of its own, which is also its Audit-ID: by the API's audit log a write came so often.
"""

import base64
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from random import Random
from typing import Any

import gevent

from tests.e2e.harness.http import Answer, Endpoint
from tests.e2e.harness.waiting import until
from tests.histories.check import History, Outcome, Revision, Watching, Write

NAMESPACE, NAME = "default", "contested"
_MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
_VALUE = re.compile(rb"<(\d+) ([\w.-]+)>")
_ANSWER = 8.0
"""Seconds for which a client waits for an answer: a part that stands still may give none."""
_ENOUGH = 120.0
"""Seconds in which a busy machine gets anything done at all."""
_BROKEN = (OSError, HTTPException, EOFError)


def revision(item: dict[str, Any]) -> Revision:
    """The ConfigMap as the API shows it."""
    found = _VALUE.fullmatch(item["data"]["at"].encode())
    assert found, item
    return Revision(int(item["metadata"]["resourceVersion"]), int(found[1]), found[2].decode())


def successor(before: Revision, token: str) -> dict[str, Any]:
    """The ConfigMap that may replace this one, and no later one."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME} | ({"resourceVersion": str(before.version)} if before.version else {}),
        "data": {"at": f"<{before.count + 1} {token}>"},
    }


def outcome(answer: Answer) -> Outcome:
    """What an answer to a write promises."""
    if 200 <= answer.status < 300:
        return Outcome.ACKNOWLEDGED
    if answer.status == 409:
        return Outcome.CONFLICT
    # Without its own words it may be the API's Retry-After, which the audit log has.
    if answer.header("Retry-After") and b"argotun: " in answer.body:
        return Outcome.NEVER_SENT
    return Outcome.UNKNOWN


class Client:
    """One that writes and one that watches, each on connections of its own, to any of the endpoints."""

    def __init__(self, name: str, endpoints: list[Endpoint], start: int, random: Random) -> None:
        self.name = name
        self.writes: list[Write] = []
        self.reads: list[Revision] = []
        self.watches = [Watching(name, start)]
        self.over = False
        self._endpoints = endpoints
        self._random = random

    def write(self) -> None:
        """Read and replace, until it is over."""
        while not self.over:
            endpoint = self._random.choice(self._endpoints)
            try:
                with endpoint.connection(_ANSWER) as connection:
                    while not self.over and self._attempt(endpoint, connection):
                        gevent.sleep(self._random.uniform(0.0, 0.05))
            except _BROKEN:
                pass
            gevent.sleep(self._random.uniform(0.0, 0.1))

    def _attempt(self, endpoint: Endpoint, connection: HTTPConnection) -> bool:
        """One compare-and-swap; False when the connection or the replica behind it serves no more.

        What it replaces was asked for, or is the newest that is known, as for a client that trusts its watch:
        such writes are tried in an outage too.
        """
        now = max(self.reads[-1:] + self.watches[-1].events[-1:], default=None)
        if now is None or self._random.random() < 0.5:
            found = _ask(endpoint, connection, "GET", f"{_MAPS}/{NAME}")
            if found.status != 200:
                return False
            now = revision(found.json())
            self.reads.append(now)
        token = f"{self.name}-{len(self.writes)}"
        item = successor(now, token)
        try:
            answer = _ask(endpoint, connection, "PUT", f"{_MAPS}/{NAME}", item, {"Audit-ID": token})
        except _BROKEN:
            self.writes.append(Write(self.name, token, now.version, Outcome.UNKNOWN))
            raise
        what = outcome(answer)
        made = revision(answer.json()) if what is Outcome.ACKNOWLEDGED else None
        self.writes.append(Write(self.name, token, now.version, what, made.version if made else 0))
        if made:
            self.reads.append(made)
        return what in (Outcome.ACKNOWLEDGED, Outcome.CONFLICT)

    def watch(self) -> None:
        """Follow the object for ever, each connection from where the last one ended."""
        while True:
            endpoint = self._random.choice(self._endpoints)
            try:
                with endpoint.connection(_ENOUGH) as connection:
                    self._follow(endpoint, connection)
            except _BROKEN:
                pass
            gevent.sleep(self._random.uniform(0.0, 0.1))

    @property
    def heard(self) -> int:
        """The last version that its watch has come to."""
        watching = self.watches[-1]
        return watching.events[-1].version if watching.events else watching.since

    def _follow(self, endpoint: Endpoint, connection: HTTPConnection) -> None:
        target = f"{_MAPS}?watch=1&fieldSelector=metadata.name%3D{NAME}&resourceVersion={self.heard}"
        response = endpoint.send(connection, "GET", target)
        if response.status != 200:
            response.read()
            return
        begun = b""
        # Not by lines: http.client takes a cut answer for a whole one there.
        while data := response.read1(1 << 16):
            *lines, begun = (begun + data).split(b"\n")
            for line in lines:
                if not self._take(json.loads(line)):
                    return
        self.watches[-1].torn += bool(begun)

    def _take(self, event: dict[str, Any]) -> bool:
        """Keep an event; False when the API says that it cannot go on from that version."""
        if event["type"] != "ERROR":
            assert event["type"] == "MODIFIED", event
            self.watches[-1].events.append(revision(event["object"]))
            return True
        assert event["object"]["code"] == 410, event
        self.watches[-1].to_the_end = False
        found = self._random.choice(self._endpoints).get(f"{_MAPS}/{NAME}")
        if found.status == 200:
            self.watches.append(Watching(self.name, revision(found.json()).version))
        return False


class Contest:
    """So many clients at work on a new ConfigMap, from start() to finish()."""

    def __init__(self, admin: Endpoint, etcd: Endpoint, run: str) -> None:
        """admin is the API asked directly; run begins each token, so that no other run's are the same."""
        self._admin = admin
        self._etcd = etcd
        self._run = run
        self._revisions: list[Revision] = []
        self._own: list[Write] = []
        self._watches_etcd = False
        self._greenlets: list[gevent.Greenlet] = []
        self._writers: list[gevent.Greenlet] = []
        self.clients: list[Client] = []

    def start(self, count: int, endpoints: list[Endpoint], random: Random) -> None:
        """Create the ConfigMap, follow it in etcd, and let the clients begin."""
        self._admin("DELETE", f"{_MAPS}/{NAME}")
        follower = self._spawn(self._follow_etcd)
        until("etcd says that it watches", lambda: self._watches_etcd or follower.ready(), seconds=_ENOUGH)
        first = self._write("POST", _MAPS, Revision(0, 0, ""))
        for number in range(count):
            name = f"{self._run}.{number}"
            client = Client(name, endpoints, first.version, Random(random.random()))
            self.clients.append(client)
            self._spawn(client.watch)
        self._writers = [self._spawn(client.write) for client in self.clients]

    def told(self, *outcomes: Outcome) -> int:
        """How many writes have come to one of these."""
        return sum(write.outcome in outcomes for client in self.clients for write in client.writes)

    def more(self, count: int, what: Outcome = Outcome.ACKNOWLEDGED) -> None:
        """Wait until so many more writes have come to that, and fail where a greenlet has failed."""
        wanted = self.told(what) + count
        until(
            f"{count} more writes {what.value}", lambda: self._sound() and self.told(what) >= wanted, _ENOUGH
        )

    def finish(self, audit_logs: Callable[[], Iterable[Path]]) -> History:
        """End the writers, write once more, and wait until all watches and etcd's have come to that."""
        for client in self.clients:
            client.over = True
        gevent.joinall(self._writers, timeout=_ENOUGH, raise_error=True)
        assert all(writer.successful() for writer in self._writers), "a writer did not end"
        now = revision(self._admin.get(f"{_MAPS}/{NAME}").json())
        last = self._write("PUT", f"{_MAPS}/{NAME}", now)

        def all_heard() -> bool:
            known = self._revisions[-1:] == [last]
            return self._sound() and known and all(client.heard >= last.version for client in self.clients)

        until("every watch has come to the last write", all_heard, _ENOUGH)
        gevent.killall(self._greenlets)
        return History(
            revisions=self._revisions,
            writes=self._own + [write for client in self.clients for write in client.writes],
            watches=[watching for client in self.clients for watching in client.watches],
            reads={client.name: client.reads for client in self.clients},
            delivered=_deliveries(audit_logs()),
        )

    def close(self) -> None:
        """End what runs."""
        gevent.killall(self._greenlets)

    def _spawn(self, what: Callable[[], None]) -> gevent.Greenlet:
        self._greenlets.append(gevent.spawn(what))
        return self._greenlets[-1]

    def _sound(self) -> bool:
        for greenlet in self._greenlets:
            if greenlet.ready():
                greenlet.get()
        return True

    def _write(self, method: str, path: str, before: Revision) -> Revision:
        token = f"{self._run}.own-{before.count}"
        answer = self._admin(method, path, successor(before, token), {"Audit-ID": token})
        assert answer.status in (200, 201), answer
        made = revision(answer.json())
        self._own.append(Write("own", token, before.version, Outcome.ACKNOWLEDGED, made.version))
        return made

    def _follow_etcd(self) -> None:
        """Every revision as etcd has it, from one watch that nothing of ours stands before."""
        key = base64.b64encode(f"/registry/configmaps/{NAMESPACE}/{NAME}".encode()).decode()
        with self._etcd.connection(_ENOUGH) as connection:
            response = self._etcd.send(connection, "POST", "/v3/watch", {"create_request": {"key": key}})
            begun = b""
            while data := response.read1(1 << 16):
                *lines, begun = (begun + data).split(b"\n")
                for line in lines:
                    result = json.loads(line)["result"]
                    self._watches_etcd |= bool(result.get("created"))
                    for event in result.get("events", ()):
                        self._revisions.append(_stored(event["kv"], len(self._revisions)))
        raise AssertionError("etcd ended its watch")


def _stored(kv: dict[str, str], before: int) -> Revision:
    """A revision from etcd's own record, which counts them itself."""
    assert int(kv["version"]) == before + 1, kv
    found = _VALUE.search(base64.b64decode(kv["value"]))
    assert found, kv
    return Revision(int(kv["mod_revision"]), int(found[1]), found[2].decode())


def _ask(
    endpoint: Endpoint,
    connection: HTTPConnection,
    method: str,
    path: str,
    body: object = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    response = endpoint.send(connection, method, path, body, headers or {})
    return Answer(response.status, tuple(response.getheaders()), response.read())


def _deliveries(logs: Iterable[Path]) -> Counter[str]:
    """How often the API was asked to write under each Audit-ID."""
    found: Counter[str] = Counter()
    for log in logs:
        with log.open() as lines:
            for line in lines:
                if f'"name":"{NAME}"' in line and line.endswith("\n"):
                    event = json.loads(line)
                    if event["verb"] in ("create", "update"):
                        found[event["auditID"]] += 1
    return found
