"""Run in a pod: asks for ConfigMaps in turn on kept connections, and holds each answer to its question.

    ask.py SERVER SECONDS RATE MAPS

Prints `asking` after its first answers, asks until SECONDS are over and its input has ended, and prints JSON.
What went wrong has the time of day and the Audit-ID, by which logs have it too.
"""

import collections
import http.client
import json
import ssl
import sys
import threading
import time
from urllib.parse import urlsplit

THREADS = 8


class Asking:
    """All threads' numbers."""

    def __init__(self, server: str, seconds: float, rate: int, maps: int) -> None:
        self.url = urlsplit(server)
        self.maps, self.pause = maps, THREADS / rate
        self.end = time.monotonic() + seconds
        self.counts: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self.unconnected: list[str] = []
        self.worst = 0.0
        self.over = threading.Event()
        self.begun = threading.Barrier(THREADS + 1)
        self.lock = threading.Lock()
        self.context = ssl.create_default_context(cafile="/tmp/caData")
        self.context.load_cert_chain("/tmp/certData", "/tmp/keyData")

    def ask(self, thread: int) -> None:
        """One thread's requests."""
        connection: http.client.HTTPSConnection | None = None
        number, due = thread * 7, time.monotonic()
        while not (self.over.is_set() and time.monotonic() > self.end):
            number += 1
            name, audit = f"asked-{number % self.maps}", f"ask-{thread}-{number}"
            started = time.monotonic()
            if connection is None:
                connection = self.connected()
            try:
                path = f"{self.url.path}/api/v1/namespaces/default/configmaps/{name}"
                connection.request("GET", path, headers={"Audit-ID": audit})
                answer = connection.getresponse()
                body = answer.read()
                self.note(str(answer.status), name, body if answer.status == 200 else None, started)
                if answer.status != 200:
                    self.tell(self.wrong, f"{audit} {answer.status} {body[:200]!r}")
                if answer.will_close:
                    connection = None
            except (OSError, http.client.HTTPException) as e:
                self.note(f"{type(e).__name__} {e}", name, None, started)
                self.tell(self.wrong, f"{audit} {type(e).__name__} {e}")
                connection = None
            if number == thread * 7 + 1:
                self.begun.wait()
            due += self.pause
            time.sleep(max(0.0, due - time.monotonic()))

    def connected(self) -> http.client.HTTPSConnection:
        """A new connection. One that does not come about is tried again: nobody was asked yet."""
        while True:
            connection = http.client.HTTPSConnection(
                self.url.hostname or "", self.url.port, context=self.context, timeout=60
            )
            try:
                connection.connect()
                return connection
            except OSError as e:
                self.tell(self.unconnected, f"{type(e).__name__} {e}")
                time.sleep(0.05)

    def tell(self, where: list[str], what: str) -> None:
        """Keep a line about something that went wrong."""
        now = time.time()
        with self.lock:
            where.append(f"{time.strftime('%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03} {what}")

    def note(self, what: str, name: str, body: bytes | None, started: float) -> None:
        """Count what came of one request."""
        with self.lock:
            self.counts[what] += 1
            self.worst = max(self.worst, time.monotonic() - started)
        if body is not None and (got := json.loads(body)["metadata"]["name"]) != name:
            self.tell(self.wrong, f"asked {name}, got {got}")


def main() -> None:
    asking = Asking(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    threads = [threading.Thread(target=asking.ask, args=(n,)) for n in range(THREADS)]
    for each in threads:
        each.start()
    asking.begun.wait()
    print("asking", flush=True)
    sys.stdin.read()
    asking.over.set()
    for each in threads:
        each.join()
    said = {
        "counts": asking.counts,
        "wrong": asking.wrong[:20],
        "unconnected": asking.unconnected,
        "worst": asking.worst,
    }
    print(json.dumps(said))


main()
