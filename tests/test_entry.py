"""Signals from the first moment on: a process that is told to end while it starts does, and says nothing."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.raw_websocket import Listening, upgraded

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 30.0
TOKEN = "a-token-of-many-characters"

# Begins the import of one module, says so, and never ends it.
HOLD = """
import os, sys
class Held:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["HOLD_AT"]:
            os.write(1, b"held")
            while True:
                os.read(0, 1)
sys.meta_path.insert(0, Held())
"""

ENTRIES = {
    "file": ["argotun.py"],
    "module": ["-m", "argotun"],
    # What pip makes of the entry point in setup.py.
    "script": ["-c", "import sys; from argotun.entry import main; sys.exit(main())"],
}

MOMENTS = ("argotun.streams", "gevent", "argotun.config.models", "yaml", "argotun.options.load")
ROLES = {
    "server": ("argotun.observe.logs", "argotun.server.app", "argotun.wire.mux", "argotun.transport.tls"),
    "agent": ("argotun.observe.logs", "argotun.agent.app", "argotun.wire.mux", "argotun.agent.policy"),
}


def in_a_namespace() -> list[str]:
    """What makes a command PID 1, to which a signal without a handler is lost."""
    command = ["unshare", "--pid", "--fork", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], check=False).returncode:
        pytest.skip("no PID namespace can be made here")
    return command


@pytest.fixture
def options(tmp_path: Path) -> dict[str, list[str]]:
    (tmp_path / "clusters").write_text(f'[{{"id": "c1", "token": "{TOKEN}"}}]')
    (tmp_path / "sa").write_text("x")
    return {
        "server": [
            *("--mode", "server", "--clusters", str(tmp_path / "clusters")),
            *("--addr", "127.0.0.1:0", "--internal-addr", "127.0.0.1:0"),
        ],
        "agent": [
            *("--mode", "agent", "--token", TOKEN, "--allow-insecure-server", "--health-addr", "off"),
            *("--target", "127.0.0.1:9", "--plain-target", "--sa-token-path", str(tmp_path / "sa")),
        ],
    }


class Starting:
    """A process of argotun, whose log goes to `log`."""

    def __init__(self, command: list[str], log: Path, **environ: str) -> None:
        self._log = log
        self._boxed = command[0] == "unshare"
        with log.open("wb") as file:
            self.popen = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
            )

    def until_held(self) -> None:
        """The import of the module has begun."""
        assert self.popen.stdout is not None
        assert self.popen.stdout.read(4) == b"held", self._log.read_text()

    @property
    def pid(self) -> int:
        """Its own, also where it is the one child of a namespace's maker."""
        if self._boxed:
            return int(Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children").read_text())
        return self.popen.pid

    def end(self, number: int = signal.SIGTERM) -> int:
        """Tell it to end; its exit code."""
        os.kill(self.pid, number)
        return self.popen.wait(PATIENCE)

    @property
    def log(self) -> str:
        return self._log.read_text()


@contextlib.contextmanager
def starting(command: list[str], folder: Path, **environ: str) -> Iterator[Starting]:
    started = Starting(command, folder / "log", **environ)
    try:
        yield started
    finally:
        started.popen.kill()
        started.popen.communicate()


@pytest.fixture
def hold(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(HOLD)
    return {"PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}"}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("moment", MOMENTS)
def test_sigterm_at_any_moment_of_the_start_ends_it(
    entry: str, moment: str, options: dict[str, list[str]], hold: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, *ENTRIES[entry], *options["agent"], "--server", "ws://127.0.0.1:9/connect"]
    with starting(command, tmp_path, HOLD_AT=moment, **hold) as process:
        process.until_held()
        assert process.end() == 143
        assert process.log == ""


@pytest.mark.parametrize(
    ("mode", "moment"), [(mode, moment) for mode, moments in ROLES.items() for moment in moments]
)
def test_a_role_that_is_told_to_end_while_it_loads_ends(
    mode: str, moment: str, options: dict[str, list[str]], hold: dict[str, str], tmp_path: Path
) -> None:
    more = ["--server", "ws://127.0.0.1:9/connect"] if mode == "agent" else []
    with starting(
        [sys.executable, "argotun.py", *options[mode], *more], tmp_path, HOLD_AT=moment, **hold
    ) as process:
        process.until_held()
        assert process.end() == 143
        assert "listens" not in process.log


@pytest.mark.parametrize("mode", ROLES)
@pytest.mark.parametrize("moment", ["argotun.streams", "gevent", "argotun.wire.mux"])
def test_pid_1_hears_sigterm_while_it_starts(
    mode: str, moment: str, options: dict[str, list[str]], hold: dict[str, str], tmp_path: Path
) -> None:
    more = ["--server", "ws://127.0.0.1:9/connect"] if mode == "agent" else []
    command = [*in_a_namespace(), sys.executable, "argotun.py", *options[mode], *more]
    with starting(command, tmp_path, HOLD_AT=moment, **hold) as process:
        process.until_held()
        assert process.end() == 143


def test_ctrl_c_while_it_starts_is_no_traceback(
    options: dict[str, list[str]], hold: dict[str, str], tmp_path: Path
) -> None:
    with starting(
        [sys.executable, "argotun.py", *options["server"]], tmp_path, HOLD_AT="gevent", **hold
    ) as process:
        process.until_held()
        assert (process.end(signal.SIGINT), process.log) == (130, "")


def test_a_python_without_the_packages_gets_a_sentence() -> None:
    # -S leaves out site-packages.
    bare = [sys.executable, "-S", "argotun.py", "--mode", "server"]
    done = subprocess.run(bare, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"argotun: the package gevent is not installed for {sys.executable}: ")
    assert ".venv/bin/python" in line


def test_a_python_that_is_too_old_gets_a_sentence() -> None:
    # Stands for an older interpreter: the code before the check is in a grammar that those read.
    old = "import sys; sys.version_info = (3, 9, 2); from argotun.entry import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", old], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("argotun: argotun needs Python 3.11 or newer, and this is ")


def test_what_pki_has_half_made_is_removed_at_sigterm(tmp_path: Path) -> None:
    fifo, folder = tmp_path / "fifo", tmp_path / "pki"
    os.mkfifo(fifo)
    (tmp_path / "bin").mkdir()
    openssl = tmp_path / "bin" / "openssl"
    openssl.write_text(f"#!/bin/sh\necho held > {fifo}\nexec sleep 60\n")
    openssl.chmod(0o755)
    command = [sys.executable, "argotun.py", "--mode", "pki", "--pki-folder", str(folder)]
    path = f"{openssl.parent}:{os.environ['PATH']}"
    with starting([*command, "--pki-server", "wss://h/connect"], tmp_path, PATH=path) as process:
        assert fifo.read_text() == "held\n", process.log
        assert list(folder.glob(".new-*"))
        assert (process.end(), process.log) == (130, "")
        assert not list(folder.glob(".new-*"))


def test_an_agent_that_is_told_to_end_while_it_shakes_hands_ends_with_0(
    options: dict[str, list[str]], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = [
            *(sys.executable, "argotun.py", *options["agent"], "--server"),
            f"wss://127.0.0.1:{listening.getsockname()[1]}/connect",
        ]
        with starting(command, tmp_path) as process:
            peer, _ = listening.accept()
            assert peer.recv(1) == b"\x16"  # the first byte of a ClientHello
            assert process.end() == 0
            peer.close()


@pytest.mark.parametrize("_", range(5))
def test_an_agent_told_to_end_beside_the_101_says_no_hello(
    options: dict[str, list[str]], tmp_path: Path, _: int
) -> None:
    with Listening() as listening:
        command = [sys.executable, "argotun.py", *options["agent"], "--server", url(listening)]
        with starting(command, tmp_path) as process:
            peer, head = listening.asked()
            # Stopped, it finds both at once when it goes on.
            os.kill(process.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            peer.send(upgraded(head, b"Sec-WebSocket-Protocol: argotun.v2\r\n"))
            os.kill(process.pid, signal.SIGTERM)
            os.kill(process.pid, signal.SIGCONT)
            assert peer.rest() == b""
            assert process.popen.wait(PATIENCE) == 0


def url(listening: Listening) -> str:
    return f"ws://127.0.0.1:{listening.address[1]}/connect"
