"""The APIs of all clusters, played by one process: `standin/` is its program, in Go."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bench.argocd.places import Place
from bench.peers.programs import built_by_go
from bench.ports import free_port
from tests.e2e.harness.http import Endpoint
from tests.e2e.harness.pki import Authority
from tests.e2e.harness.processes import Process
from tests.e2e.harness.waiting import until

_SOURCES = Path(__file__).with_name("standin")

Counts = dict[str, Counter[str]]
"""Of clusters that are cut off, `cut`, and of others, `kept`: requests so far, and watches `open`."""


def build() -> str:
    """The program, built by Go where it was not built before."""
    return built_by_go("argocd-standin", _SOURCES, program="standin")


class StandIn:
    """The process."""

    def __init__(
        self, program: str, folder: Path, places: Sequence[Place], direct: bool, kinds: int | None
    ) -> None:
        authority = Authority("stand-in", folder)
        self.ca = authority.cert
        self.port = free_port()
        self._direct = direct
        self._places = {place.address(direct): place for place in places}
        self._control = Endpoint(free_port())
        pair = authority.issue("stand-in", *self._places)
        options = ["-addr", f":{self.port}", "-control", f"127.0.0.1:{self._control.port}"]
        options += ["-cert", str(pair.cert), "-key", str(pair.key)]
        options += ["-kinds", str(kinds)] if kinds is not None else []
        self.process = Process("stand-in", [program, *options], folder)
        until("the stand-in tells its counts", self._listens)

    def at(self, place: Place) -> str:
        """host:port of a cluster's API."""
        return f"{place.address(self._direct)}:{self.port}"

    def counts(self) -> Counts:
        """What was asked of it."""
        return sorted_out(self._control.get("/").json(), self._places)

    def _listens(self) -> bool:
        self.process.check()
        return self._control.get("/").status == 200


def sorted_out(by_address: dict[str, dict[str, int]], places: dict[str, Place]) -> Counts:
    """The sums over the clusters that are cut off, and over the others."""
    found: Counts = {"kept": Counter(), "cut": Counter()}
    for address, counts in by_address.items():
        if (place := places.get(address)) is not None:
            found["cut" if place.cut else "kept"].update(counts)
    return found
