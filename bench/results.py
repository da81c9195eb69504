"""Figures that are kept: a JSON file in bench/results for each run of which the documents tell.

    when     the day, or the second, of the run
    source   "measured", or from where the figures were copied
    machine  what `bench.machine` says of it: processor, versions, commit

and beside these what the benchmark measured, as its `--json` writes it anywhere else.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.errors import BenchError

FOLDER = Path(__file__).with_name("results")
TABLE = FOLDER / "table.json"
"""Of `python -m bench`."""

MEASURED = "measured"

Record = dict[str, Any]


def write(path: Path, described: dict[str, object], **figures: object) -> None:
    """Keep what was measured just now on the machine that is `described`."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = {"when": now, "source": MEASURED, "machine": described, **figures}
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")


def kept(name: str) -> Record | None:
    """A record by its name, or None where none was kept."""
    return read(name) if (FOLDER / f"{name}.json").exists() else None


def read(name: str) -> Record:
    """A record by its name. Raises BenchError where it is not there."""
    path = FOLDER / f"{name}.json"
    try:
        record: Record = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise BenchError(f"there is no {path}: no run of that name was kept") from None
    return record
