"""The standard streams, closed, full, without a reader and in other encodings: no traceback, and no end."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bench.ports import free_port
from tests.rig import Peer, until

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 30.0
CLUSTERS = '[{"id": "c1", "token": "a-token-of-many-characters"}]'

ENVIRONMENTS = {
    "ascii": {"PYTHONIOENCODING": "ascii:strict"},
    "latin-1": {"PYTHONIOENCODING": "latin-1:strict"},
    "C": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
}


def shell(command: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """A command line of sh, in which `argotun` is the program."""
    return subprocess.run(
        ["sh", "-c", f'argotun() {{ {sys.executable} argotun.py "$@"; }}; {command}'],
        check=False,
        cwd=ROOT,
        env=os.environ | environ,
        capture_output=True,
        timeout=PATIENCE,
    )


def asks(port: int) -> bool:
    """Whether the server answers a request, which is a line of its access log."""
    try:
        sock = socket.create_connection(("127.0.0.1", port), 5)
    except OSError:
        return False
    peer = Peer(sock)
    try:
        peer.send(b"GET /tunnel/c1/api HTTP/1.1\r\nHost: argotun\r\n\r\n")
        return peer.response().status == 502
    finally:
        peer.close()


@pytest.mark.parametrize("where", ["<&- >&- 2>&-", ">&-", "2>&-", ">/dev/full 2>/dev/full", "broken pipes"])
def test_a_server_serves_whatever_its_output_is(where: str) -> None:
    port = free_port()
    reading, writing = os.pipe()
    os.close(reading)
    redirect = "" if where == "broken pipes" else where
    process = subprocess.Popen(
        [
            *("sh", "-c", f'exec "$@" {redirect}', "-", sys.executable, "argotun.py", "--mode", "server"),
            *("--addr", "127.0.0.1:0", "--internal-addr", f"127.0.0.1:{port}", "--reconnect-grace", "0s"),
        ],
        cwd=ROOT,
        env=os.environ | {"CLUSTERS": CLUSTERS},
        stdout=writing,
        stderr=writing,
    )
    os.close(writing)
    try:
        until(lambda: asks(port), "an answer", PATIENCE)
        assert asks(port)
        # Else one of them would be a socket.
        files = [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in range(3)]
        assert not [each for each in files if each.startswith(("socket", "anon"))]
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("options", ["--help", "--version", "--print-config --mode demo"])
def test_a_command_whose_output_is_lost_says_so(options: str) -> None:
    done = shell(f"argotun {options} >/dev/full")
    assert (done.returncode, done.stderr) == (1, b"argotun: stdout: No space left on device\n")


@pytest.mark.parametrize("options", ["--help", "--version", "--print-config --mode demo"])
def test_a_command_without_stdout_is_no_traceback(options: str) -> None:
    done = shell(f"argotun {options} >&-")
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_sentence_that_cannot_be_written_keeps_its_exit_code() -> None:
    for redirect in ("2>&-", "2>/dev/full", ">&- 2>&-"):
        assert shell(f"argotun --mode server {redirect}").returncode == 2


@pytest.mark.parametrize("environ", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
@pytest.mark.parametrize("name", [b"Z\xc3\xbcrich\xe2\x82\xac", b"\xff\xfe"], ids=["text", "no text"])
def test_what_an_encoding_lacks_is_written_as_an_escape(
    environ: dict[str, str], name: bytes, tmp_path: Path
) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    with open(path, "wb") as file:
        file.write(CLUSTERS.encode())
    done = shell("argotun --print-config --mode server", CLUSTERS=os.fsdecode(path))
    assert done.returncode == 0
    done = shell("argotun --print-config --mode server", CLUSTERS=os.fsdecode(path), **environ)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert b"clusters:" in done.stdout
    os.unlink(path)
    done = shell("argotun --mode server", CLUSTERS=os.fsdecode(path), **environ)
    assert done.returncode == 2
    assert done.stderr.startswith(b"argotun: --clusters (from CLUSTERS): ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("environ", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_help_can_be_read_in_any_encoding(environ: dict[str, str]) -> None:
    done = shell("argotun --help", **environ)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"--mode" in done.stdout
