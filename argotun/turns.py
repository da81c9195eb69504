"""Turns of the event loop: how long one may take, and how to give others theirs."""

STINT = 0.001
"""Seconds that what came by one tunnel is worked on before others get their turn: a hostile message may hold
a hundred thousand frames, and each may end in a write to a client. A request waits for two turns of others,
and takes about as long itself; to give a turn costs a fiftieth of this."""

NEXT_TURN = 1e-6
"""Any timer, in seconds: libev looks at the sockets before it runs one, but `sleep(0)` returns before."""
