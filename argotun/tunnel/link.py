"""A WebSocket becomes a tunnel: the one place where a version is chosen and HELLOs are exchanged.

Server and agent do the same from here on, whoever dialled: the subprotocol says which version is spoken, each
side says HELLO first (version 1 has none, so an empty one stands for it), and a peer that drains says GOAWAY.
"""

from collections.abc import Callable

from argotun.config.models import TunnelConfig
from argotun.transport import MessageSocket
from argotun.transport.lookout import Lookout
from argotun.tunnel.tunnel import Tunnel
from argotun.wire.frames import PEER, PEER_SUBPROTOCOL, SUBPROTOCOL, V1, V2
from argotun.wire.hello import Hello
from argotun.wire.mux import Multiplexer

PROFILES = {SUBPROTOCOL: V2, PEER_SUBPROTOCOL: PEER}
"""What a subprotocol stands for; none is version 1."""

HELLO_TIMEOUT = 10.0
"""Seconds that a peer has to say HELLO."""


def link(
    socket: MessageSocket,
    config: TunnelConfig,
    lookout: Lookout,
    *,
    opener: bool,
    ours: Hello,
    on_hello: Callable[[Tunnel, Hello], None],
    on_goaway: Callable[[Tunnel, int, str], None] = lambda tunnel, reason, text: None,
) -> Tunnel:
    """The tunnel on `socket`, which lives once somebody calls `run`.

    `opener` is true for the side that opens streams. `on_hello` is called when the peer has said who it is,
    in version 1 before this returns; `on_goaway` when it drains, with a reason and its words. Both are called
    from the tunnel's reader and may end the tunnel. A peer that says no HELLO in time is cut off,
    and so is one whose machine `lookout` takes for gone.
    """
    profile = PROFILES.get(socket.subprotocol or "", V1)
    mux = Multiplexer(profile, opener=opener, ours=ours, budget=config.tunnel_buffer)
    tunnel = Tunnel(
        socket,
        mux,
        keepalive=config.keepalive,
        keepalive_timeout=config.keepalive_timeout,
        hello_timeout=HELLO_TIMEOUT,
    )
    lookout.keep(socket.sock, tunnel.unheard)
    tunnel.ended.rawlink(lambda _: lookout.drop(socket.sock))
    mux.on_hello = lambda theirs: on_hello(tunnel, theirs)
    mux.on_goaway = lambda reason, text: on_goaway(tunnel, reason, text)
    if profile is V1:
        on_hello(tunnel, Hello())
    return tunnel
