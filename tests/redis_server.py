"""A real redis-server of a test's own, or a Sentinel: started, killed, stopped for a while, started again."""

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from bench.ports import free_port
from tests.rig import until

PROGRAM = shutil.which("redis-server")


def require() -> str:
    """The program; skips the test where it is missing, which CI does not let be."""
    if PROGRAM is None:
        pytest.skip("needs redis-server (Debian: redis-server)")
    return PROGRAM


class RedisServer:
    """One that keeps nothing on disk; `options` are more of its command line."""

    def __init__(self, folder: Path, *options: str) -> None:
        require()
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        keep_nothing = ("--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--port", str(self.port))
        return [require(), *keep_nothing, "--dir", str(self.folder), *self.options]

    def start(self) -> None:
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        try:
            until(self.answers, "a redis-server that answers", explain=(self.folder / "log").read_text)
        except BaseException:
            self.close()
            raise

    def answers(self) -> bool:
        with suppress(redis.RedisError), self.client() as client:
            return bool(client.ping())
        return False

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=2.0, protocol=2)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        # The signal has come when the kernel says T.
        stat = Path(f"/proc/{self._process.pid}/stat")
        until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "a stopped process")

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGCONT)
            self.kill()


class Sentinel(RedisServer):
    """A Sentinel that watches one master under the name `main`."""

    def __init__(self, folder: Path, master: RedisServer, quorum: int = 1) -> None:
        self._master, self._quorum = master, quorum
        super().__init__(folder)

    def command(self) -> list[str]:
        file = self.folder / "sentinel.conf"
        if not file.exists():
            file.write_text(
                f"port {self.port}\nbind 127.0.0.1\n"
                f"sentinel monitor main 127.0.0.1 {self._master.port} {self._quorum}\n"
                "sentinel down-after-milliseconds main 600\nsentinel failover-timeout main 3000\n"
            )
        return [require(), str(file), "--sentinel"]
