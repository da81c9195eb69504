"""A crash leaves no key and no token in a file."""

import subprocess
import sys
from pathlib import Path

import pytest

from argotun import cli
from argotun.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SHOWS = """
from argotun.process import forbid_core_dumps
import ctypes, resource
forbid_core_dumps()
print(*resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux says whether a process is dumpable")
def test_a_process_leaves_no_core() -> None:
    done = subprocess.run([sys.executable, "-c", SHOWS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "0", "0"]


@pytest.mark.parametrize("mode", ["server", "agent", "demo", "pki", "status"])
def test_every_mode_forbids_cores_before_it_reads_a_file(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def load(*_: object) -> None:
        raise ConfigError("--mode", called, "no cores")

    monkeypatch.setattr(cli, "forbid_core_dumps", lambda: called.append("cores"))
    monkeypatch.setattr(cli, "load", load)
    with pytest.raises(ConfigError, match="'cores'"):
        cli.start(["--mode", mode], {})
