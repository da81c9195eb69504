"""Real HTTP proxies from Debian, squid and tinyproxy, on loopback ports with configurations of their own."""

import glob
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from bench.ports import free_port
from tests.rig import until

USER, PASSWORD = "customer", "s3cr3t:/@é"
CREDENTIALS = "customer:s3cr3t%3A%2F%40%C3%A9"
"""User and password as they stand in a proxy's URL."""

FORBIDDEN = 1
"""A port that no proxy here connects to."""

NAME = "tunnel.example"
"""A name that squid alone can resolve; it means 127.0.0.1."""

SQUID = """
http_port 127.0.0.1:{plain}
http_port [::1]:{six}
https_port 127.0.0.1:{tls} tls-cert={folder}/server.pem tls-key={folder}/server.key
pid_filename none
netdb_filename none
pinger_enable off
cache deny all
cache_effective_user nobody
cache_log {folder}/squid.log
access_log stdio:{folder}/access.log
logfile_rotate 0
coredump_dir {folder}
hosts_file {folder}/hosts
shutdown_lifetime 0 seconds
visible_hostname proxy.example
auth_param basic program {authenticator} {folder}/passwords
auth_param basic children 1 startup=1
acl known proxy_auth REQUIRED
acl forbidden port {forbidden}
http_access deny forbidden
http_access allow known
http_access deny all
"""

TINYPROXY = """
Port {plain}
Listen 127.0.0.1
Timeout {idle}
MaxClients 20
LogLevel Info
LogFile "{folder}/access.log"
BasicAuth {user} {password}
"""


class RealProxy:
    """A proxy as a process; `start` may be called again after `kill`, with the same ports."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        self.folder = folder
        self.ports: dict[str, int] = {}
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, port: str = "plain", credentials: str = CREDENTIALS) -> str:
        """The URL for `--proxy`: `plain`, `six` (IPv6) or `tls`."""
        scheme = "https" if port == "tls" else "http"
        host = "[::1]" if port == "six" else "127.0.0.1"
        return f"{scheme}://{credentials}{'@' * bool(credentials)}{host}:{self.ports[port]}"

    def start(self) -> None:
        """Run it, and wait until all its ports are open."""
        self._process = subprocess.Popen(
            self._command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(lambda: all(map(self._is_open, self.ports)), "the open ports", 30.0, explain=self._died)

    def kill(self) -> None:
        """End it without a word, as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Let it neither read nor answer; the kernel goes on to accept in its name."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        """What it says that it was asked."""
        file = self.folder / "access.log"
        return file.read_text("utf-8", "replace") if file.exists() else ""

    def _is_open(self, port: str) -> bool:
        host = "::1" if port == "six" else "127.0.0.1"
        try:
            socket.create_connection((host, self.ports[port])).close()
        except ConnectionRefusedError:
            return False
        return True

    def _died(self) -> str:
        assert self._process is not None
        logs = [file.read_text("utf-8", "replace")[-2000:] for file in self.folder.glob("*.log")]
        return f"(exit code {self._process.poll()})\n" + "\n".join(logs)


@contextmanager
def squid() -> Iterator[RealProxy]:
    """Squid with a plain port, an IPv6 one and one behind TLS; `folder / "ca.pem"` is that one's CA."""
    authenticator = "/usr/lib/squid/basic_ncsa_auth"
    if not (program("squid") and os.path.exists(authenticator) and program("openssl")):
        pytest.skip("needs squid and openssl (Debian packages squid, openssl)")

    def prepare(folder: Path) -> dict[str, str | int]:
        ca = trustme.CA()
        leaf = ca.issue_cert("127.0.0.1")
        ca.cert_pem.write_to_path(str(folder / "ca.pem"))
        leaf.private_key_pem.write_to_path(str(folder / "server.key"))
        leaf.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
        digest = subprocess.check_output(["openssl", "passwd", "-apr1", PASSWORD], text=True)
        (folder / "passwords").write_text(f"{USER}:{digest}")
        (folder / "hosts").write_text(f"127.0.0.1 {NAME}\n")
        return {"authenticator": authenticator, "forbidden": FORBIDDEN}

    # Its shared memory has the name of the service, and stays where it was killed.
    service = f"argotun{os.getpid()}"
    command = ["squid", "-N", "-n", service, "-f", "proxy.conf"]
    try:
        yield from run(command, SQUID, ("plain", "six", "tls"), prepare)
    finally:
        for left in glob.glob(f"/dev/shm/{service}-*"):
            os.unlink(left)


@contextmanager
def tinyproxy(idle: int = 600) -> Iterator[RealProxy]:
    """Tinyproxy, which ends a connection that says nothing for `idle` seconds."""
    if not program("tinyproxy"):
        pytest.skip("needs tinyproxy (Debian package tinyproxy)")
    command = ["tinyproxy", "-d", "-c", "proxy.conf"]
    options = {"idle": idle, "user": USER, "password": "s3cr3t"}
    yield from run(command, TINYPROXY, ("plain",), lambda folder: options)


def program(name: str) -> str | None:
    """Where a program is; Debian's root has /usr/sbin in its PATH, others may not."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")


def run(
    command: list[str], form: str, ports: tuple[str, ...], prepare: Callable[[Path], dict[str, str | int]]
) -> Iterator[RealProxy]:
    """A proxy in a folder of its own, ended and removed with the generator."""
    folder = Path(tempfile.mkdtemp(prefix="argotun-proxy-"))
    # Squid leaves root behind, and is to read and write here all the same.
    folder.chmod(0o777)
    made = RealProxy(folder, [program(command[0]) or "", *command[1:]])
    try:
        made.ports = dict(zip(ports, (free_port() for _ in ports), strict=True))
        values = prepare(folder) | made.ports | {"folder": str(folder)}
        (folder / "proxy.conf").write_text(form.format(**values))
        for file in folder.iterdir():
            file.chmod(0o644)
        made.start()
        yield made
    finally:
        if made._process is not None and made._process.poll() is None:
            made.kill()
        shutil.rmtree(folder)
