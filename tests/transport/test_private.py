"""The inside of libraries: one file alone reaches there, and names what it does not find."""

import ast
import gc
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import gevent.ssl
import pytest
import simple_websocket
from geventwebsocket.handler import WebSocketHandler

from argotun.errors import LibraryError
from argotun.transport import _private

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "argotun" / "transport" / "_private.py"
SOURCES = sorted({*(ROOT / "argotun").rglob("*.py")} - {PLACE})

# Libraries' attributes that no underscore marks, and whose names are not used for anything else.
UNPROMISED = {"extra_headeers", "fds", "print_exception", "upgrade_connection"}

# A named tuple's methods, whose underscore only keeps them apart from its fields; what os documents; and the
# part of the standard library that `signal` shows as it is.
PROMISED = {"_replace", "_asdict", "_fields", "_make", "_exit", "_signal"}


def is_private(name: str) -> bool:
    hidden = name.startswith("_") and not name.endswith("__") and name not in PROMISED
    return hidden or name in UNPROMISED


def own_names(tree: ast.AST) -> set[str]:
    """Private names that a file itself defines: its methods, functions, slots and `self._…` attributes."""
    own: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                own.add(name)
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                own.add(name)
            case ast.AnnAssign(target=ast.Name(id=name)):
                own.add(name)
    return own


def reaches(path: Path) -> Iterator[str]:
    """Each place of a file where it takes a private attribute that is not its own from something."""
    tree = ast.parse(path.read_text())
    own = own_names(tree)
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self"), attr=name) if name not in UNPROMISED:
                found = None if name in own else name
            # `socket._sock` of gevent has the name that some classes here give to the socket itself.
            case ast.Attribute(attr="_sock"):
                found = "_sock"
            case ast.Attribute(attr=name):
                found = None if name in own else name
            case ast.Call(
                func=ast.Name(id="getattr" | "setattr" | "hasattr"), args=[_, ast.Constant(str(name)), *_]
            ):
                found = name
            case ast.Subscript(value=ast.Call(func=ast.Name(id="vars")), slice=ast.Constant(str(name))):
                found = name
            case ast.ImportFrom(module=str(module)) if not module.startswith("argotun"):
                parts = [*module.split("."), *(alias.name for alias in node.names)]
                found = next(filter(is_private, parts), None)
            case _:
                continue
        if found is not None and is_private(found):
            yield f"{path}:{node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_one_file_knows_the_inside_of_libraries(path: Path) -> None:
    assert not list(reaches(path))


@pytest.mark.parametrize(
    "source",
    [
        "self._sock._sock.send",
        "sock._read_event",
        "getattr(sock, '_sslobj', None)",
        "vars(hub)['print_exception']",
        "client.extra_headeers = []",
        "poll.fds.pop(1)",
        "super()._handle_client_error(error)",
        "self._detach_socket('closed')",
        "from gevent._util import copy_globals",
    ],
)
def test_the_search_finds_a_reach_into_a_library(source: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(f"class Ours:\n    def __init__(self):\n        self._sock = None\n\n{source}\n")
    assert list(reaches(path))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(
    ("owner", "name", "library"),
    [
        (gevent.socket.socket, "_read_event", "gevent"),
        (gevent.socket.socket, "_write_event", "gevent"),
        (gevent.socket.socket, "_sock", "gevent"),
        (WebSocketHandler, "upgrade_connection", "gevent-websocket"),
        (simple_websocket.Client, "handshake", "simple-websocket"),
    ],
)
def test_a_library_without_what_is_needed_is_named(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, library: str
) -> None:
    class Renamed:
        def __set__(self, instance: object, value: object) -> None:
            pass

        def __get__(self, instance: object, owner: object = None) -> Any:
            raise AttributeError(name)

    monkeypatch.setattr(owner, name, Renamed())
    with pytest.raises(LibraryError, match=rf"{library} [\d.]+ lacks .+ requirements\.txt") as caught:
        _private.try_out()
    assert str(caught.value).isprintable()
    # What the trial opened may be impossible to close; another test is not to be warned of it.
    del caught
    gc.collect()


def test_a_tls_socket_without_openssls_connection_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wrap = gevent.ssl.SSLContext.wrap_socket

    def wrapped(*args: Any, **options: Any) -> Any:
        tls = wrap(*args, **options)
        vars(tls)["_sslobj"] = None
        return tls

    monkeypatch.setattr(gevent.ssl.SSLContext, "wrap_socket", wrapped)
    with pytest.raises(LibraryError, match=r"gevent .* inside its SSLSocket"):
        _private.try_out()


def test_a_library_that_drops_our_headers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one would that spells `extra_headeers` in another way."""

    def handshake(client: Any) -> None:
        client.extra_headers = []
        request = simple_websocket.ws.Request(
            host=client.host,
            target=client.path,
            subprotocols=client.subprotocols,
            extra_headers=client.extra_headers,
        )
        client.sock.send(client.ws.send(request))
        client.ws.receive_data(client.sock.recv(0))
        client.subprotocol = next(client.ws.events()).subprotocol

    monkeypatch.setattr(simple_websocket.Client, "handshake", handshake)
    with pytest.raises(LibraryError, match="simple-websocket"):
        _private.try_out()


def test_a_websockets_without_its_masking_function_is_named() -> None:
    """In a process of its own: the module that tries it out is in use here."""
    code = """
import websockets.frames
del websockets.frames.apply_mask
import argotun.wire.websocket
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert re.search(r"LibraryError: websockets [\d.]+ lacks frames\.apply_mask", done.stderr)


@pytest.mark.parametrize(
    "change",
    [
        "del redis.Connection._connect",
        "SocketBuffer._read_from_socket = lambda self, *_, **options: self._sock.recv_into(bytearray(9))",
    ],
)
def test_a_redis_py_that_connects_or_reads_in_another_way_is_named(change: str) -> None:
    """In a process of its own: the module that tries it out may be in use here."""
    code = f"""
import redis
from redis._parsers.socket import SocketBuffer
{change}
import argotun.replicas.engine
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert re.search(r"LibraryError: redis [\d.]+ lacks .+ _connect, .+ recv alone", done.stderr)


def test_the_trial_leaves_nothing_open() -> None:
    # What other tests left is collected now, and not meanwhile.
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    _private.try_out()
    gevent.sleep(0)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
