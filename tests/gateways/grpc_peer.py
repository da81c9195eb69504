"""Real gRPC, as a process of its own: its threads and gevent's patches do not go together.

    python grpc_peer.py serve
    python grpc_peer.py call ADDRESS NAME CA_FILE USER_AGENT

`serve` prints its port and answers until its standard input ends. `call` makes one call, over TLS, of
the kind that `argocd login` makes, and prints what came of it: `OK …` or the status and its details.
"""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc

METHOD = "/session.SessionService/Create"
LIMIT = 30.0
"""Seconds for one call."""


class Sessions(grpc.GenericRpcHandler):
    """Answers METHOD with what it was asked, and says that it was native gRPC."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if handler_call_details.method != METHOD:
            return None
        create: Callable[..., bytes] = lambda request, context: b"native " + request  # noqa: E731
        return grpc.unary_unary_rpc_method_handler(create)


def serve() -> None:
    server = grpc.server(ThreadPoolExecutor(4), handlers=[Sessions()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(0)


def call(address: str, name: str, ca: str, user_agent: str) -> None:
    with open(ca, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    options = [
        ("grpc.ssl_target_name_override", name),
        ("grpc.default_authority", name),
        ("grpc.primary_user_agent", user_agent),
        ("grpc.enable_http_proxy", 0),
    ]
    with grpc.secure_channel(address, credentials, options) as channel:
        try:
            print("OK", channel.unary_unary(METHOD)(b"login", timeout=LIMIT).decode())
        except grpc.RpcError as error:
            print(error.code().name, error.details())


if __name__ == "__main__":
    {"serve": serve, "call": call}[sys.argv[1]](*sys.argv[2:])
