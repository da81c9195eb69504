"""Run in a pod: asks for one long answer on many connections, and reads none of them.

    stall.py URL CONNECTIONS

Prints `stalled` once all have asked, and ends with its input.
"""

import socket
import ssl
import sys
from urllib.parse import urlsplit


def main() -> None:
    url, number = urlsplit(sys.argv[1]), int(sys.argv[2])
    context = ssl.create_default_context(cafile="/tmp/caData")
    context.load_cert_chain("/tmp/certData", "/tmp/keyData")
    held = []
    for _ in range(number):
        plain = socket.create_connection((url.hostname, url.port), 60)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        each = context.wrap_socket(plain, server_hostname=url.hostname)
        each.sendall(f"GET {url.path} HTTP/1.1\r\nHost: {url.hostname}\r\n\r\n".encode())
        held.append(each)
    print("stalled", flush=True)
    sys.stdin.read()


main()
