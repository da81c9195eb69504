"""A listening socket: accepts for ever, and shakes hands and hands over in each connection's own greenlet."""

import errno
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_address
from time import monotonic
from typing import Any

import gevent
from gevent import socket as _socket
from gevent.socket import socket

from argotun.address import host_port
from argotun.errors import HandshakeError, ProtocolError, TransportError
from argotun.seldom import Seldom
from argotun.transport.dial import keep_alive
from argotun.transport.explain import explain
from argotun.transport.handshakes import HANDSHAKES, Handshakes
from argotun.transport.paths import listen
from argotun.transport.peek import LOOK, look
from argotun.transport.places import MAKE_ROOM, Dropped, Peer, Place, Places
from argotun.transport.tls import LenientTls, ServerTls
from argotun.turns import NEXT_TURN
from argotun.wire import client_hello, proxy_header

BACKLOG = 4096
"""Connections that the kernel holds until they are accepted; somaxconn where that is less."""

_ACCEPTS_PER_TURN = 16
"""Connections accepted per turn of the event loop: each costs 0.1 ms, which those already there must wait."""

MOST = 1 << 20
"""Places of a listener that is told no number: as many as a process has descriptors, and more."""

_PAUSE = 0.1
"""Seconds to wait after an error that only time cures (out of descriptors)."""

# The client was gone before it was accepted: nothing is wrong with the listener (accept(2)).
_ITS_OWN_FAULT = frozenset(
    {errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.EHOSTUNREACH}
)

_log = logging.getLogger(__name__)

Handle = Callable[[socket, Peer], None]
Refused = Callable[[Peer, HandshakeError], None]
Networks = tuple[IPv4Network | IPv6Network, ...]


class Listener:
    """Accepts TCP connections on `address` and calls `handle(sock, (peer address, peer port))` for each.

    `address` is (host, port): host "" means every address, IPv6 and IPv4; port 0 takes a free one,
    which `address` names after `start()`. Each call runs in a greenlet of its own; when it returns or
    raises, the socket is closed. With `tls`, the socket given to `handle` is through its handshake: its
    ClientHello has `hello_timeout` seconds from the accept on, the rest `handshake_timeout`; `handshakes` may
    be in progress at once. `on_refused(peer, error)` is called for each handshake that fails.

    With `path` it listens on the Unix socket of that path and not on `address`; peers have neither address
    nor port then. With `reuse_port`, other processes of the same user may listen on the same address, and the
    kernel gives each new connection to one of them (SO_REUSEPORT of socket(7)).

    `places` says how many connections there may be, and whom a full port drops; `handle` finds the place of a
    connection there, and proves it once that has shown who it is. A connection from one of the networks
    `trusted` begins with a PROXY header; the address in it counts from then on, here and in `handle`.
    """

    def __init__(
        self,
        address: tuple[str, int],
        handle: Handle,
        tls: ServerTls | LenientTls | None = None,
        *,
        handshake_timeout: float,
        hello_timeout: float,
        handshakes: int = HANDSHAKES,
        places: Places | None = None,
        trusted: Networks = (),
        backlog: int = BACKLOG,
        reuse_port: bool = False,
        path: str | None = None,
        on_refused: Refused | None = None,
    ) -> None:
        self.address = address
        self.places = places or Places(MOST, MOST)
        self._handle = handle
        self._tls = tls
        self._handshakes = Handshakes(handshake_timeout, handshakes)
        self._hello_timeout = hello_timeout
        self._trusted = trusted
        self._backlog = backlog
        self._reuse_port = reuse_port
        self._path = path
        self._on_refused = on_refused
        self._seldom = Seldom(_log)
        self._listening: socket | None = None
        self._stopped = False

    @property
    def name(self) -> str:
        """Where it listens, for people."""
        return host_port(*self.address) if self._path is None else self._path

    def start(self) -> None:
        """Bind, listen and begin to accept.

        Raises TransportError, naming the address, when it cannot be had.
        """
        host, port = self.address
        if self._path is None and not 0 <= port < 65536:
            # The resolver would take it modulo 65536.
            raise TransportError(f"cannot listen on {host_port(*self.address)}: there is no such port")
        try:
            if self._path is not None:
                listening = listen(self._path, self._backlog)
            else:
                listening = _bind(host.strip("[]"), port, self._backlog, self._reuse_port)
                self.address = listening.getsockname()[:2]
        except OSError as error:
            raise TransportError(f"cannot listen on {self.name}: {explain(error)}") from error
        self._listening = listening
        gevent.spawn(self._accept, listening)

    def stop_accepting(self) -> None:
        """Close the listening socket: new connections are refused, and those that were made live on.

        Connections that wait in the kernel's backlog are accepted first: closing would reset them.
        """
        listening, self._listening = self._listening, None
        self._stopped = True
        self._seldom.close()
        if listening is None:
            return
        listening.settimeout(0.0)
        try:
            for _ in range(self._backlog):
                self._begin(*listening.accept())
        except OSError:
            pass
        listening.close()
        if self._path is not None:
            with suppress(FileNotFoundError):
                os.unlink(self._path)

    def _accept(self, listening: socket) -> None:
        accepted = 0
        failing = False
        while True:
            try:
                sock, peer = listening.accept()
            except OSError as error:
                if self._stopped:
                    return
                if error.errno in _ITS_OWN_FAULT:
                    continue
                if not failing:
                    _log.error("%s: cannot accept connections: %s", self.name, explain(error))
                failing = True
                gevent.sleep(_PAUSE)
                continue
            if failing:
                _log.info("%s: connections are accepted again", self.name)
                failing = False
            self._begin(sock, peer)
            accepted += 1
            # Where it is full, the descriptor of the one that was dropped is closed in another turn.
            if accepted % _ACCEPTS_PER_TURN == 0 or self.places.taken >= self.places.limit:
                gevent.sleep(NEXT_TURN)

    def _begin(self, sock: socket, address: tuple[Any, ...]) -> None:
        peer = _peer(address)
        proxied = self._trusted and _is_in(peer[0], self._trusted)
        place = self.places.take("" if proxied else peer[0])
        if place is None:
            sock.close()
            self._say(logging.WARNING, peer, "no place is free")
            return
        # It is neither waited for nor killed: a bare greenlet saves 2.4 KiB per connection.
        place.greenlet = gevent.spawn_raw(self._serve, sock, peer, place, proxied)

    def _serve(self, sock: socket, peer: Peer, place: Place, proxied: bool) -> None:
        name = peer
        try:
            if place.dropped:
                raise Dropped
            until = monotonic() + self._hello_timeout
            keep_alive(sock)
            if proxied:
                name = self._introduced(sock, peer, place, until)
            if self._tls is not None:
                said = look(sock, client_hello.missing, until, "the ClientHello")
                if not said:
                    # A load balancer that looks whether the port is open, or a client that thought again.
                    raise ConnectionAbortedError
                if client_hello.speaks_http(said):
                    _tell_plain(sock)
                sock = self._handshakes.shake(sock, self._tls.context())
            with self.places.serving(place, name):
                self._handle(sock, name)
        except HandshakeError as error:
            self._say(logging.INFO, name, str(error))
            if self._on_refused is not None:
                self._on_refused(name, error)
        except Dropped:
            self._say(logging.WARNING, name, MAKE_ROOM)
        except OSError as error:
            # The client has left again: setting an option of the socket is what fails first then.
            _log.debug("%s: %s: %s", self.name, host_port(*name), explain(error))
        except Exception:
            # A fault in one connection must be visible, and must not end another.
            _log.exception("%s: the connection of %s ended in an error", self.name, host_port(*name))
        finally:
            sock.close()
            place.leave()

    def _introduced(self, sock: socket, peer: Peer, place: Place, until: float) -> Peer:
        """The client's address, as the PROXY header says that its connection begins with."""
        seen = look(sock, proxy_header.missing, until, "the PROXY header")
        if not seen:
            raise ConnectionAbortedError
        try:
            origin = proxy_header.parse(seen)
        except ProtocolError as error:
            raise HandshakeError(str(error)) from error
        sock.recv(origin.size)
        if origin.address is None:
            return peer
        if not place.move(origin.address[0]):
            raise HandshakeError(f"no place is free for {origin.address[0]}")
        return origin.address

    def _say(self, level: int, peer: Peer, why: str) -> None:
        self._seldom.say(level, why, "%s: %s was not let in: %s", self.name, host_port(*peer), why)


def _tell_plain(sock: socket) -> None:
    """Answer plain HTTP on a port with TLS. Raises HandshakeError."""
    with suppress(OSError):
        # What is left unread would have the kernel reset the connection, and take the answer back.
        sock.recv(LOOK)
        sock.send(client_hello.PLAIN_HTTP)
        sock.shutdown(_socket.SHUT_WR)
    raise HandshakeError("TLS handshake: plain HTTP was spoken to a TLS port")


def _is_in(address: str, networks: Networks) -> bool:
    found = ip_address(address.partition("%")[0])
    return any(found in network for network in networks)


def _bind(host: str, port: int, backlog: int, reuse_port: bool) -> socket:
    """A listening socket on the first address of `host` that this machine has; "" is all addresses."""
    if host:
        family, _, _, _, where = _socket.getaddrinfo(
            host, port, type=_socket.SOCK_STREAM, flags=_socket.AI_PASSIVE
        )[0]
        return _socket.create_server(where, family=family, backlog=backlog, reuse_port=reuse_port)
    if _socket.has_dualstack_ipv6():
        try:
            return _socket.create_server(
                ("", port),
                family=_socket.AF_INET6,
                backlog=backlog,
                reuse_port=reuse_port,
                dualstack_ipv6=True,
            )
        except OSError as error:
            # IPv6 may be switched off by sysctl.
            if error.errno != errno.EADDRNOTAVAIL:
                raise
    return _socket.create_server(("", port), backlog=backlog, reuse_port=reuse_port)


def _peer(address: tuple[Any, ...]) -> tuple[str, int]:
    """The peer's address and port; an IPv4 client of a dual-stack socket by its IPv4 address."""
    if not address:
        # Who dials a Unix socket has no name.
        return "", 0
    return address[0].removeprefix("::ffff:"), address[1]
