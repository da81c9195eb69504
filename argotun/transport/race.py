"""Several attempts to connect, the first of which wins: other addresses, and other ports of our own.

Addresses join one after the other (RFC 8305 §5): STAGGER seconds after the one before, or as soon as that has
failed. An address that has said nothing for AGAIN seconds is asked once more, beside the attempt that waits,
from a new port: where the first packet was led to a machine that is gone (a pod that was deleted, behind a
Service), a connection tracker sends all of its repetitions there as well, and each of them keeps the entry
alive. The second attempt is made anew every AGAIN seconds, while the first one keeps all of its time, for a
peer that is merely slow. So an address has two sockets at most, and what it answers to either of them counts.
"""

import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from errno import EINPROGRESS
from math import inf
from select import POLLOUT
from time import monotonic
from typing import Any

from gevent import socket as _socket
from gevent.select import poll
from gevent.socket import socket

from argotun.transport.explain import explain

STAGGER = 0.25
"""Seconds until the next address is tried beside one that has not answered, RFC 8305 §5."""

AGAIN = 2.0
"""Seconds without an answer until an address is asked from another port: the kernel has repeated its packet
once by then, so that a single lost one is no reason."""

AddressInfo = tuple[Any, ...]
"""Family, type, protocol, canonical name and address, as getaddrinfo gives them."""


def race(addresses: Sequence[AddressInfo], deadline: float) -> tuple[socket | None, list[str]]:
    """Connect to one of the addresses by `deadline` (monotonic seconds).

    The connection, without a timeout; or None, and of each address what became of it.
    """
    waiting = deque(addresses)
    lanes: list[_Lane] = []
    failures: list[str] = []
    watch = poll()
    joins = 0.0
    winner = None
    try:
        while waiting or lanes:
            now = monotonic()
            if now >= deadline:
                failures += [f"{lane.name}: no answer in time" for lane in lanes]
                failures += [f"{address[4][0]}: no time was left to try it" for address in waiting]
                break
            if waiting and (now >= joins or not lanes):
                lanes.append(_Lane(waiting.popleft(), watch))
                joins = now + STAGGER
            for lane in lanes:
                if now >= lane.due:
                    lane.ask(now)
            if not any(lane.failure for lane in lanes):
                next_look = min(deadline, joins if waiting else inf, *(lane.due for lane in lanes))
                heard = [fd for fd, _ in watch.poll(max(1000 * (next_look - monotonic()), 1))]
                winner = next((sock for lane in lanes if (sock := lane.hear(heard)) is not None), None)
                if winner is not None:
                    winner.settimeout(None)
                    break
            for lane in [lane for lane in lanes if lane.failure]:
                lanes.remove(lane)
                lane.close()
                failures.append(f"{lane.name}: {lane.failure}")
                joins = 0.0
    finally:
        for lane in lanes:
            lane.close(but=winner)
    return winner, failures


class _Lane:
    """One address in the race: its first attempt, and the one beside it.

    `due` is when the next attempt is made (monotonic seconds), `failure` what ended them all, "" before.
    """

    __slots__ = ("_address", "_sockets", "_watch", "due", "failure", "name")

    def __init__(self, address: AddressInfo, watch: poll) -> None:
        self.name: str = address[4][0]
        self.due = 0.0
        self.failure = ""
        self._address = address
        self._watch = watch
        self._sockets: list[socket] = []

    def ask(self, now: float) -> None:
        """Make the first attempt, or the next one beside it."""
        self.due = now + AGAIN
        for outdated in self._sockets[1:]:
            self._drop(outdated)
        try:
            sock = socket(*self._address[:3])
        except OSError as error:
            # That this process has no descriptor left is no answer to the attempt that waits.
            self.failure = "" if self._sockets else explain(error)
            return
        self._sockets.append(sock)
        sock.settimeout(0.0)
        number = sock.connect_ex(self._address[4])
        if number not in (0, EINPROGRESS):
            self.failure = _words(number)
            return
        self._watch.register(sock, POLLOUT)

    def hear(self, descriptors: Sequence[int]) -> socket | None:
        """The socket that is connected, if one is among those that have heard something."""
        for sock in self._sockets:
            if sock.fileno() in descriptors:
                number = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
                if not number:
                    return sock
                self.failure = _words(number)
        return None

    def close(self, but: socket | None = None) -> None:
        """Close all attempts but the one that won."""
        for sock in [each for each in self._sockets if each is not but]:
            self._drop(sock)

    def _drop(self, sock: socket) -> None:
        self._sockets.remove(sock)
        with suppress(KeyError):
            # What failed at once is not watched.
            self._watch.unregister(sock)
        sock.close()


def _words(number: int) -> str:
    return explain(OSError(number, os.strerror(number)))
