"""What makes replicas of servers: a registry of their own, and certificates for the links between them."""

import shutil
import signal

from bench import certificates
from bench.ports import free_port
from bench.site import Child, Site

PROGRAM = "redis-server"


def missing() -> str | None:
    """What this machine lacks."""
    lacking = [name for name in (PROGRAM, "openssl") if shutil.which(name) is None]
    return f"not installed: {', '.join(lacking)} (Debian: the same names)" if lacking else None


class Registry:
    """A redis-server that keeps nothing on disk; `options` make a replica of a server.

    Replicas of `one_machine` find each other in a folder.
    """

    def __init__(self, site: Site, one_machine: bool = False) -> None:
        self._site = site
        self._port = free_port()
        self.replaced = 0
        self.child = self._start()
        folder = site.folder / "peers"
        folder.mkdir()
        made = certificates.peers(folder)
        reached = "--peer-addr", "127.0.0.1:0"
        if one_machine:
            reached = "--peer-sockets", str(site.folder / "sockets")
        self.options = [
            *("--registry", f"redis://127.0.0.1:{self._port}", *reached),
            *("--peer-ca", str(made.ca), "--peer-cert", str(made.certificate), "--peer-key", str(made.key)),
        ]

    def replace(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it, and start an empty one in its place."""
        self.child.process.send_signal(how)
        self.child.process.wait()
        self.replaced += 1
        self._site.stop([self.child])
        self.child = self._start()

    def _start(self) -> Child:
        nothing_kept = ("--save", "", "--appendonly", "no", "--dir", str(self._site.folder))
        command = [PROGRAM, "--bind", "127.0.0.1", "--port", str(self._port), *nothing_kept]
        return self._site.start("redis", command)
