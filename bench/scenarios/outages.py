"""Bad moments: the hub's process is killed under load, and a thousand agents come at once."""

import json
import subprocess
import sys
import time
from pathlib import Path

from bench import crowd
from bench.client import Client
from bench.errors import BenchError
from bench.peers.programs import NotAtHand
from bench.scenarios.scene import Figures, NotMeasured, Row, Scenario, Stage

CLONE = Path(__file__).resolve().parents[2]
EVERY = 0.01
"""Seconds between two requests."""

CALM = 1.0
"""Seconds of good answers before the kill, and after it until it is over."""

PATIENCE = 15.0
"""Seconds until there must be a good answer again."""

STORM_LIMIT = 240.0
ENDING = 60.0
"""Seconds that the storm may take to end its own processes."""


class Asker:
    """Asks one request after the other; each that is not answered with 200 is lost, and none is repeated.

    `since` is when the answers began to be good without a break, infinity where the last one was not.
    """

    def __init__(self, url: str, ca: Path) -> None:
        self._url = url
        self._ca = ca
        self._client: Client | None = None
        self.lost = 0
        self.since = float("inf")

    def ask_until_calm(self) -> None:
        """Ask until answers have been good for a while; BenchError where there is none within PATIENCE."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < self.since + CALM:
            began = time.monotonic()
            if self._ask():
                self.since = min(self.since, time.monotonic())
            else:
                self.lost += 1
                self.since = float("inf")
            if self.since == float("inf") and began > deadline:
                raise BenchError(f"no answer for {PATIENCE:.0f} s")
            time.sleep(max(0.0, began + EVERY - time.monotonic()))

    def close(self) -> None:
        """Hang up."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _ask(self) -> bool:
        try:
            if self._client is None:
                self._client = Client(self._url, self._ca)
            if self._client.get()[0] == 200:
                return True
        except (BenchError, OSError, ValueError):
            # Also an answer that is none.
            pass
        self.close()
        return False


def _killed(stage: Stage) -> Figures:
    """The hub is started anew at once, as whoever watches over processes does at best."""
    if "server" not in stage.running.children:
        raise NotMeasured("there is no hub")
    with stage.fresh() as running:
        asker = Asker(f"{running.url}/small", stage.ground.certificates.ca)
        try:
            asker.ask_until_calm()
            if asker.lost:
                raise BenchError(f"{asker.lost} requests were lost before anything was killed")
            hub = running.children["server"]
            killed = time.monotonic()
            hub.process.kill()
            hub.process.wait()
            running.children["server"] = stage.ground.site.again(hub)
            asker.since = float("inf")
            asker.ask_until_calm()
        finally:
            asker.close()
        return {"lost": float(asker.lost), "away": asker.since - killed}


def _storm(stage: Stage) -> Figures:
    """`bench.storm` for argotun, a crowd of its own agents for everybody else who has one."""
    return _storm_of_argotun(stage) if stage.subject.name == "argotun" else _storm_of_a_peer(stage)


def _storm_of_argotun(stage: Stage) -> Figures:
    report = stage.ground.site.write("storm.json", "")
    run_to_its_end("bench.storm", "--agents", str(stage.effort.agents), "--json", str(report))
    try:
        storms = {each["name"]: each for each in json.loads(report.read_text())["storms"]}
    except ValueError:
        raise BenchError("the storm did not come to its end") from None
    cut, restart = storms["cut"], storms["restart"]
    for name, each in (("cut", cut), ("restart", restart)):
        if each["back"] < each["agents"]:
            raise BenchError(f"{name}: {each['back']} of {each['agents']} agents came back")
    return {
        "last": cut["last"],
        "live": 1e3 * cut["live"]["p99"],
        "cpu": 1e3 * cut["cpu"] / cut["agents"],
        "restart": restart["last"],
        "restart_cpu": 1e3 * restart["cpu"] / restart["agents"],
    }


def _storm_of_a_peer(stage: Stage) -> Figures:
    """No tunnel stays, so there is no `live`; where no agent can lose its tunnel alone, a restart only."""
    count = stage.effort.agents
    if isinstance(stage.subject.crowd, str):
        raise NotMeasured(stage.subject.crowd)
    try:
        many = stage.subject.crowd(stage.ground, count)
    except NotAtHand as why:
        raise NotMeasured(str(why)) from None
    figures: Figures = {}
    try:
        crowd.gather(many, count)
        if many.cuts:
            time.sleep(crowd.CALM)
            cut = crowd.cut(many, count)
            figures |= {"last": cut.last, "cpu": 1e3 * cut.cpu / count}
        time.sleep(crowd.CALM)
        restart = crowd.restart(many, count, stage.ground.site)
    finally:
        stage.ground.site.stop(many.children)
    return figures | {"restart": restart.last, "restart_cpu": 1e3 * restart.cpu / count}


def run_to_its_end(module: str, *arguments: str) -> None:
    """A benchmark that starts processes of its own, which it ends when it is told to end."""
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments], cwd=CLONE, stdout=subprocess.DEVNULL
    ) as process:
        try:
            process.wait(STORM_LIMIT)
        except BaseException as error:
            process.terminate()
            process.wait(ENDING)
            if isinstance(error, subprocess.TimeoutExpired):
                raise BenchError(f"it was not over after {STORM_LIMIT:.0f} s") from None
            raise


SCENARIOS = (
    Scenario(
        "killed",
        "the hub is killed and started again at once, beside a GET of 1 KiB each 10 ms",
        (Row("lost", "requests lost", 0), Row("away", "seconds until an answer", 2)),
        _killed,
    ),
    Scenario(
        "storm",
        "1,000 agents lose their tunnels and come back at once",
        (
            Row("last", "seconds until the last is back", 1),
            Row("cpu", "CPU ms/agent: server", 2),
            Row("live", "p99 ms of a GET on a tunnel that stays", 1),
            Row("restart", "the server killed, and back after 1 s: seconds until the last is back", 1),
            Row("restart_cpu", "the server killed, and back after 1 s: CPU ms/agent: server", 2),
        ),
        _storm,
    ),
)
