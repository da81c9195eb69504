"""The error lines of a log that is being written, as the tests of Argo CD count them."""

from collections import Counter
from pathlib import Path

from tests.argocd.harness.observer import error_in


class ErrorLog:
    """Reads on from where it was last, whole lines only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size

    def take(self) -> Counter[str]:
        """How often the first words of an error came since this was asked last."""
        found: Counter[str] = Counter()
        with self._path.open("rb") as log:
            log.seek(self._offset)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                if said := error_in(line.decode(errors="replace")):
                    found[said] += 1
        return found
