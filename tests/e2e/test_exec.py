"""kubectl exec and attach: streams both ways, exit codes and terminals, over WebSocket and over SPDY."""

import fcntl
import hashlib
import os
import pty
import struct
import termios
from concurrent.futures import ThreadPoolExecutor

import gevent
import gevent.os
import pytest

from .harness.processes import running
from .harness.tunnel import Tunnel
from .harness.waiting import until
from .harness.way import Way

pytestmark = pytest.mark.node
# kubectl asks for a WebSocket with GET, and for SPDY/3.1 with POST.
PROTOCOLS = {"websocket": ("true", "get"), "spdy": ("false", "create")}


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment in which kubectl speaks that protocol."""
    return {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": PROTOCOLS[request.param][0]}


def test_the_exit_code_and_both_outputs_come_back(way: Way, pod: str, protocol: dict[str, str]) -> None:
    script = "echo to-stdout; echo to-stderr >&2; exit 7"
    done = way.kubectl.run("exec", pod, "--", "sh", "-c", script, code=7, **protocol)
    assert done.stdout == b"to-stdout\n"
    assert done.stderr == b"to-stderr\ncommand terminated with exit code 7\n"


@pytest.mark.parametrize("name", PROTOCOLS)
def test_kubectl_speaks_the_protocol_that_was_asked_for(way: Way, pod: str, name: str) -> None:
    """Without this the tests of one protocol could all run over the other, to which kubectl falls back."""
    setting, verb = PROTOCOLS[name]
    mark = f"marked-{name}"
    way.kubectl.run("exec", pod, "--", "echo", mark, KUBECTL_REMOTE_COMMAND_WEBSOCKETS=setting)
    event = way.cluster.audited(
        "the exec", lambda e: mark in e["requestURI"] and e["objectRef"]["namespace"] == way.namespace
    )
    assert event["verb"] == verb
    assert event["responseStatus"]["code"] == 101


def test_stdin_arrives_whole_with_its_end(way: Way, pod: str, protocol: dict[str, str]) -> None:
    data = os.urandom(3_000_000)
    done = way.kubectl.run("exec", "-i", pod, "--", "cat", stdin=data, **protocol)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_ten_megabytes_of_output_are_unchanged(way: Way, pod: str, protocol: dict[str, str]) -> None:
    data = os.urandom(10_000_000)
    (way.container / "ten").write_bytes(data)
    done = way.kubectl.run("exec", pod, "--", "cat", "ten", **protocol)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_a_command_that_answers_each_line_is_not_held_up(
    way: Way, pod: str, protocol: dict[str, str]
) -> None:
    with (
        running(way.kubectl.start("exec", "-i", pod, "--", "cat", **protocol)) as kubectl,
        gevent.Timeout(30),
    ):
        assert kubectl.stdin
        assert kubectl.stdout
        for n in range(20):
            kubectl.stdin.write(b"%d\n" % n)
            kubectl.stdin.flush()
            assert kubectl.stdout.readline() == b"%d\n" % n
        kubectl.stdin.close()
        assert kubectl.wait() == 0


def test_a_command_that_is_not_there_fails_as_in_a_shell(
    way: Way, pod: str, protocol: dict[str, str]
) -> None:
    said = way.kubectl.run("exec", pod, "--", "no-such-command", code=127, **protocol).stderr
    assert b"exit code 127" in said


def test_an_exec_into_a_pod_that_is_not_there_is_refused_by_the_api(
    way: Way, pod: str, protocol: dict[str, str]
) -> None:
    said = way.kubectl.run("exec", "absent", "--", "true", code=1, **protocol).stderr
    assert b'pods "absent" not found' in said


def test_execs_beside_each_other_keep_their_exit_codes(way: Way, pod: str, protocol: dict[str, str]) -> None:
    def run(code: int) -> bytes:
        return way.kubectl.run(
            "exec", pod, "--", "sh", "-c", f"echo {code}; exit {code}", code=code, **protocol
        ).stdout

    codes = range(1, 9)
    with ThreadPoolExecutor(len(codes)) as pool:
        assert list(pool.map(run, codes)) == [b"%d\n" % code for code in codes]


class Terminal:
    """A terminal of 41 lines and 101 columns, for kubectl to run in."""

    def __init__(self) -> None:
        self._ours, self.kubectls = pty.openpty()
        fcntl.ioctl(self.kubectls, termios.TIOCSWINSZ, struct.pack("HHHH", 41, 101, 0, 0))
        self.shown = b""

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def wait_for(self, text: bytes) -> None:
        """Until text is on the screen."""
        with gevent.Timeout(20, AssertionError(f"{text!r} is not on the screen: {self.shown!r}")):
            while text not in self.shown:
                self.shown += gevent.os.tp_read(self._ours, 4096)

    def close(self) -> None:
        os.close(self._ours)
        os.close(self.kubectls)


def test_a_terminal_has_its_size_and_passes_an_interrupt_on(
    way: Way, pod: str, protocol: dict[str, str]
) -> None:
    terminal = Terminal()
    script = (
        'test -t 0 && until [ "$(stty size)" = "41 101" ]; do sleep 0.05; done; echo sized; exec sleep 100'
    )
    try:
        command = way.kubectl.start(
            "exec", "-it", pod, "--", "sh", "-c", script, terminal=terminal.kubectls, **protocol
        )
        with running(command) as kubectl:
            terminal.wait_for(b"sized\r\n")
            terminal.type(b"\x03")
            assert kubectl.wait(20) == 128 + 2
        terminal.wait_for(b"command terminated with exit code 130")
    finally:
        terminal.close()


def test_attach_talks_to_the_running_process(way: Way, pod: str, protocol: dict[str, str]) -> None:
    with running(way.kubectl.start("attach", "-i", pod, **protocol)) as kubectl, gevent.Timeout(30):
        assert kubectl.stdin
        assert kubectl.stdout
        assert kubectl.stdout.readline() == b"attached\n"
        kubectl.stdin.write(b"are you there?\n")
        kubectl.stdin.flush()
        assert kubectl.stdout.readline() == b"are you there?\n"
        kubectl.stdin.close()
        assert kubectl.wait() == 0


def test_a_command_notices_that_its_client_went(way: Way, pod: str) -> None:
    """By WebSocket: by SPDY the API server itself keeps a command whose client went."""
    noticed = way.container / "noticed"
    script = "trap '' PIPE; while echo tick; do sleep 0.05; done 2>errors; touch noticed"
    with running(way.kubectl.start("exec", pod, "--", "sh", "-c", script)) as kubectl:
        assert kubectl.stdout
        assert kubectl.stdout.readline() == b"tick\n"
    until("the command notices", noticed.exists, seconds=10)


def test_a_stream_of_the_tunnel_ends_with_its_client(
    tunnel: Tunnel, tunnel_way: Way, pod: str, protocol: dict[str, str]
) -> None:
    before = tunnel.streams()
    command = ("exec", pod, "--", "sh", "-c", "echo up; sleep 100")
    with running(tunnel_way.kubectl.start(*command, **protocol)) as kubectl:
        assert kubectl.stdout
        assert kubectl.stdout.readline() == b"up\n"
        assert tunnel.streams() > before
    until("the stream ends", lambda: tunnel.streams() <= before, seconds=10)
