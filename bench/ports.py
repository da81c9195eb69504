"""Ports of loopback for programs that are told where to listen, each given to one asker only."""

import random
import socket

_RANGE = range(15000, 32000)
"""Below those that the kernel gives to outgoing connections and to whoever binds port 0."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody has and no other process of the bench or the tests is given.

    The claim is a name in Linux's abstract namespace of Unix sockets: it is this process's alone, and is
    gone when the process is. Between the answer and the listening of a child nothing else can take the port.
    """
    for _ in range(1000):
        port = random.choice(_RANGE)
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0argotun-port-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        # Nobody closes it: it is the process's until its end.
        claim.detach()
        return port
    raise AssertionError("no free port on 127.0.0.1")


def held(host: str = "127.0.0.1") -> socket.socket:
    """A socket that has a port and does not listen: who dials it is refused, and nobody else is given it.

    Whoever sets SO_REUSEADDR, as listeners do, may listen on the port meanwhile, end, and listen again.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, 0))
    except OSError:
        sock.close()
        raise
    return sock
