"""nginx as two hops with mutual TLS between them and TLS to the API: what two proxies in C cost.

It is no tunnel: the first one dials the second, which no customer's firewall would let through. It is the
floor that two processes with the same three hops can be measured against.
"""

from bench.ports import free_port
from bench.subject import Ground, Running, ready

# One process each, as argotun's two; buffers in memory only, no temporary files: both ways are streamed.
_CONFIG = """
daemon off;
master_process off;
pid {folder}/{name}.pid;
error_log {folder}/{name}-error.log warn;
worker_rlimit_nofile {files};
events {{ worker_connections {files}; }}
http {{
    access_log off;
    keepalive_timeout 3600s;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_temp_path {folder}/{name}-body;
    proxy_temp_path {folder}/{name}-proxy;
    fastcgi_temp_path {folder}/{name}-fastcgi;
    uwsgi_temp_path {folder}/{name}-uwsgi;
    scgi_temp_path {folder}/{name}-scgi;
    proxy_max_temp_file_size 0;
    proxy_request_buffering off;
    proxy_http_version 1.1;
    map $http_upgrade $upgraded {{ default upgrade; "" ""; }}
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $upgraded;
    proxy_ssl_trusted_certificate {ca};
    proxy_ssl_verify on;
    proxy_ssl_name localhost;
    upstream next {{ server {next}; keepalive 256; keepalive_requests 1000000000; }}
    server {{
{server}
        location / {{ proxy_pass https://next; }}
        # Events would wait until a buffer is full.
        location = /watch {{ proxy_buffering off; proxy_pass https://next; }}
    }}
}}
"""

_FIRST = """
        listen {address};
        proxy_ssl_certificate {certificates.agent};
        proxy_ssl_certificate_key {certificates.agent_key};
"""

_SECOND = """
        listen {address} ssl;
        ssl_certificate {certificates.server};
        ssl_certificate_key {certificates.server_key};
        ssl_client_certificate {certificates.ca};
        ssl_verify_client on;
"""


def start(ground: Ground) -> Running:
    """The first as `server`, where the clients are, and the second as `agent`."""
    first, second = (f"127.0.0.1:{free_port()}" for _ in range(2))
    children = {}
    for name, address, listens, after in (
        ("agent", second, _SECOND, ground.upstream.tls),
        ("server", first, _FIRST, ground.via(second)),
    ):
        config = ground.site.write(
            f"hop-{name}.conf",
            _CONFIG.format(
                folder=ground.site.folder,
                name=f"hop-{name}",
                files=8192,
                ca=ground.certificates.ca,
                next=after,
                server=listens.format(address=address, certificates=ground.certificates),
            ),
        )
        log = str(ground.site.folder / f"hop-{name}-error.log")
        children[name] = ground.site.start(f"hop-{name}", ["nginx", "-c", str(config), "-e", log])
    return ready(ground, Running(f"http://{first}", children))
