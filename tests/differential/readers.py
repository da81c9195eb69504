"""Other programs that read HTTP/1.1: Go's net/http, Node's llhttp, and nginx, haproxy and Envoy before Go's.

Each listens on a port of loopback and answers a request with `X-Read`: what it has read, or what the gateway
has made of it. One that is not at hand skips its tests and says what installs it.
"""

import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from gevent import socket

from bench.ports import free_port
from tests.gateways import envoy
from tests.rig import until

HERE = Path(__file__).parent
# A gateway that refuses less than it does by default tells more.
NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/log error;
events {{ worker_connections 256; }}
http {{
  access_log off; large_client_header_buffers 8 64k; client_max_body_size 0;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  underscores_in_headers on; ignore_invalid_headers off;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{origin}; proxy_http_version 1.1; proxy_set_header Host $http_host;
    }}
  }}
}}
"""
HAPROXY = """
global
  tune.bufsize 131072
defaults
  mode http
  timeout client 20s
  timeout server 20s
  timeout connect 5s
frontend all
  bind 127.0.0.1:{port}
  default_backend origin
backend origin
  server origin 127.0.0.1:{origin}
"""


@contextmanager
def go() -> Iterator[int]:
    """Go's net/http; the port."""
    with process([str(_built())], "") as port:
        yield port


@contextmanager
def node() -> Iterator[int]:
    """Node's http, which is llhttp; the port."""
    with process([_program("node", "nodejs"), str(HERE / "reader.js")], "") as port:
        yield port


@contextmanager
def nginx(origin: int) -> Iterator[int]:
    """Nginx before the origin at that port; its own port."""
    with _gateway("nginx", "nginx-light", NGINX, ["-e", "stderr", "-c"], origin) as port:
        yield port


@contextmanager
def haproxy(origin: int) -> Iterator[int]:
    """Haproxy before the origin at that port; its own port."""
    with _gateway("haproxy", "haproxy", HAPROXY, ["-db", "-q", "-f"], origin) as port:
        yield port


@contextmanager
def envoy_proxy(origin: int) -> Iterator[int]:
    """Envoy before the origin at that port; its own port."""
    if envoy.binary() is None:
        pytest.skip("there is no Envoy: make gateways installs one")
    port = free_port()
    with envoy.Envoy(_envoy(port, origin)):
        until(lambda: _listens(port), "Envoy's port")
        yield port


GATEWAYS: dict[str, Callable[[int], AbstractContextManager[int]]] = {
    "nginx": nginx,
    "haproxy": haproxy,
    "envoy": envoy_proxy,
}


@contextmanager
def before_go(gateway: str) -> Iterator[int]:
    """A gateway before Go's net/http; the gateway's port."""
    with go() as origin, GATEWAYS[gateway](origin) as port:
        yield port


READERS: dict[str, Callable[[], AbstractContextManager[int]]] = {
    "go": go,
    "node": node,
    **{name: functools.partial(before_go, name) for name in GATEWAYS},
}


@contextmanager
def process(command: list[str], folder: str, port: int = 0) -> Iterator[int]:
    """A child that listens on `port`, or says on which in its first line; it ends with the block."""
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=folder or None, text=True
    )
    try:
        assert child.stdout is not None
        listening = port or int(child.stdout.readline())
        until(lambda: _listens(listening), command[0])
        yield listening
    finally:
        child.terminate()
        child.wait(20)
        assert child.stdout is not None
        child.stdout.close()


def _program(name: str, package: str) -> str:
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed (Debian: {package})")
    return path


@functools.cache
def _built() -> Path:
    compiler = _program("go", "golang-go")
    target = Path(tempfile.mkdtemp(prefix="argotun-differential-")) / "reader"
    subprocess.run([compiler, "build", "-o", str(target), str(HERE / "go" / "main.go")], check=True)
    return target


@contextmanager
def _gateway(name: str, package: str, config: str, flags: list[str], origin: int) -> Iterator[int]:
    program = _program(name, package)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="argotun-") as folder:
        file = Path(folder) / "config"
        file.write_text(config.format(folder=folder, port=port, origin=origin))
        with process([program, *flags, str(file)], folder, port):
            yield port


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _envoy(port: int, origin: int) -> dict[str, object]:
    def address(number: int) -> dict[str, object]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    api = "type.googleapis.com/envoy.extensions"
    manager = {
        "@type": f"{api}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "all",
        "codec_type": "HTTP1",
        "http_protocol_options": {"accept_http_10": True, "enable_trailers": True},
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "origin"}}],
                }
            ]
        },
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{api}.filters.http.router.v3.Router"}}
        ],
    }
    endpoint = {"endpoint": {"address": address(origin)}}
    return {
        "admin": {"address": address(0)},
        "static_resources": {
            "listeners": [
                {
                    "name": "all",
                    "address": address(port),
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                {
                    "name": "origin",
                    "type": "STATIC",
                    "connect_timeout": "5s",
                    "load_assignment": {
                        "cluster_name": "origin",
                        "endpoints": [{"lb_endpoints": [endpoint]}],
                    },
                }
            ],
        },
    }
