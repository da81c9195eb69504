"""Memory of processes, looked at once a second on a thread of its own."""

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence

from bench import procfs

Sample = tuple[float, dict[str, int]]
"""When, and the KiB of each process by name."""


class Sampler:
    """Looks from its making on until `stop`."""

    def __init__(self, pids: Mapping[str, int], every: float = 1.0) -> None:
        self._pids = pids
        self._every = every
        self._over = threading.Event()
        self.samples: list[Sample] = []
        self._look()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._every):
            self._look()

    def _look(self) -> None:
        # A process that has ended is told of by whoever runs it.
        with contextlib.suppress(OSError, KeyError):
            self.samples.append(
                (time.monotonic(), {name: procfs.rss(pid) for name, pid in self._pids.items()})
            )


def between(samples: Sequence[Sample], began: float, ended: float) -> dict[str, dict[str, int]]:
    """The first, the highest and the last of each process within those moments, in MiB."""
    chosen = [kib for when, kib in samples if began <= when <= ended]
    names = chosen[0].keys() if chosen else ()
    return {
        name: {
            "first": round(chosen[0][name] / 1024),
            "peak": round(max(each[name] for each in chosen) / 1024),
            "last": round(chosen[-1][name] / 1024),
        }
        for name in names
    }
