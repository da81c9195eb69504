"""What a run of `--mode pki` did, and until when each certificate is valid."""

from datetime import UTC, datetime
from pathlib import Path

from argotun.transport.certificates import certificates, parse

_SHOWN = 20
"""Lines for agents whose certificates were kept; a folder may hold thousands."""


class Report:
    """Filled while a folder is; `changed` are clusters whose values their customers need again, or first."""

    def __init__(self) -> None:
        self._made: list[tuple[str, str, str]] = []
        self._kept: list[tuple[str, str]] = []
        self.changed: list[str] = []
        self.removed: list[str] = []

    def made(self, name: str, path: str, again: bool = False) -> None:
        """A certificate is new, for the first time or `again`."""
        self._made.append(("renewed" if again else "made   ", name, _end(path)))

    def kept(self, name: str, path: str) -> None:
        """A certificate stays as it was."""
        self._kept.append((name, _end(path)))

    def text(self) -> str:
        """A line each; of the many that were kept the ones that end first."""
        kept = sorted(self._kept, key=lambda entry: entry[1])
        lines = [f"  {verb}  {name}, valid until {end}" for verb, name, end in self._made]
        lines += [f"  kept     {name}, valid until {end}" for name, end in kept[:_SHOWN]]
        if len(kept) > _SHOWN:
            lines.append(f"  kept     {len(kept) - _SHOWN} more, which end later")
        lines += [f"  removed  the entry of {cluster}" for cluster in self.removed]
        return "".join(f"{line}\n" for line in lines)


def _end(path: str) -> str:
    """The last day of a certificate, in UTC."""
    first = certificates(Path(path).read_text("ascii", "replace"))[0]
    return f"{datetime.fromtimestamp(parse(first).not_after, UTC):%Y-%m-%d}"
