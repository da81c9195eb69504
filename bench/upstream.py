"""The upstream that stands for the Kubernetes API: one nginx process, with TLS and without."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench import client
from bench.certificates import Certificates
from bench.errors import BenchError
from bench.ports import free_port
from bench.site import Child, Site, wait_until

SMALL = 1024  # bytes of the small answer
LIST = 1 << 20  # bytes of a list of objects
BULK = 200_000_000  # bytes of the large one

# A single process (no master) so that its CPU time is one line in /proc. Uploads are written to the site's
# folder and answered only then: a body that nginx merely discards would be answered before it was read.
CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log warn;
worker_rlimit_nofile {files};
events {{ worker_connections {files}; }}
http {{
    access_log off;
    default_type application/json;
    keepalive_timeout 3600s;
    keepalive_requests 1000000000;
    client_header_timeout 3600s;
    client_max_body_size 0;
    client_body_buffer_size 256k;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    ssl_certificate {certificates.server};
    ssl_certificate_key {certificates.server_key};
    ssl_protocols TLSv1.2 TLSv1.3;
    proxy_http_version 1.1;
    upstream itself {{ server 127.0.0.1:{plain_port}; keepalive 64; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{tls_port} ssl backlog=4096{buffer};
        listen 127.0.0.1:{plain_port} backlog=4096{buffer};
        location = /small {{ return 200 "{small}"; }}
        location = /bulk {{ alias {folder}/bulk; }}
        location = /list {{ alias {folder}/list; }}
        # nginx asks itself, for which it reads the whole body first.
        location = /post {{ proxy_pass http://itself/small; proxy_set_header Connection ""; }}
        location /upload/ {{ root {folder}; dav_methods PUT; create_full_put_path on; }}
        location = /nginx {{ stub_status; }}
    }}
}}
"""


@dataclass(frozen=True)
class Upstream:
    """A running nginx: `tls` and `plain` are `host:port`, `uploaded` is where `PUT /upload/body` ends up."""

    tls: str
    plain: str
    child: Child
    uploaded: Path

    def connections(self) -> int:
        """How many client connections nginx holds now, this question's own left out."""
        status, body = client.get(f"http://{self.plain}/nginx")
        found = re.search(rb"Active connections: (\d+)", body)
        if status != 200 or found is None:
            raise BenchError(f"nginx answered its status page with {status}")
        return int(found[1]) - 1


def start(site: Site, certificates: Certificates, files: int, buffer: str = "") -> Upstream:
    """Start nginx and wait until it answers.

    `files` = how many connections it may hold, `buffer` = what the kernel is to keep for sending on each of
    them ("128k"); its own choice is up to 4 MiB.
    """
    tls_port, plain_port = free_port(), free_port()
    folder = Path(tempfile.mkdtemp(prefix="nginx-", dir=site.folder))
    # A hole of 200 MB: read like any file, and no memory is needed for it.
    with (folder / "bulk").open("wb") as bulk:
        bulk.truncate(BULK)
    (folder / "list").write_bytes(bytes(LIST))
    (folder / "upload").mkdir()
    config = site.write(
        "nginx.conf",
        CONFIG.format(
            folder=folder,
            files=files,
            certificates=certificates,
            tls_port=tls_port,
            plain_port=plain_port,
            small="x" * SMALL,
            buffer=f" sndbuf={buffer}" if buffer else "",
        ),
    )
    child = site.start("nginx", ["nginx", "-c", str(config), "-e", str(folder / "nginx-error.log")])
    upstream = Upstream(
        tls=f"127.0.0.1:{tls_port}",
        plain=f"127.0.0.1:{plain_port}",
        child=child,
        uploaded=folder / "upload" / "body",
    )
    wait_until("nginx", lambda: _answers(upstream), [child])
    return upstream


def _answers(upstream: Upstream) -> bool:
    try:
        return upstream.connections() >= 0
    except OSError:
        return False
