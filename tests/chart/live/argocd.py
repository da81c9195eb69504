"""What Argo CD makes of a cluster secret: a client of that cluster, and a kubeconfig for kubectl."""

import base64
import http.client
import json
import socket
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class ClusterSecret:
    """One of Argo CD's cluster secrets, read as Argo CD reads it."""

    def __init__(self, secret: dict[str, Any]) -> None:
        data = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
        self.labels = secret["metadata"]["labels"]
        self.name = data["name"]
        self.server = data["server"]
        self.config = json.loads(data["config"])
        self.tls = self.config["tlsClientConfig"]

    @property
    def host(self) -> str:
        """The name in its URL, which the certificate must bear."""
        return urlsplit(self.server).hostname or ""

    def file(self, folder: Path, key: str) -> Path:
        """A PEM file of one of its certificates or keys."""
        path = folder / key
        path.write_bytes(base64.b64decode(self.tls[key]))
        path.chmod(0o600)
        return path

    def context(self, folder: Path, *, certificate: bool = True) -> ssl.SSLContext:
        """What its connections are verified with."""
        context = ssl.create_default_context(cafile=self.file(folder, "caData"))
        if certificate:
            context.load_cert_chain(self.file(folder, "certData"), self.file(folder, "keyData"))
        return context

    def kubeconfig(self, folder: Path, port: int) -> Path:
        """For a kubectl that finds the Service's pod at 127.0.0.1:port."""
        parts = urlsplit(self.server)
        cluster = {
            "server": f"https://127.0.0.1:{port}{parts.path}",
            "tls-server-name": parts.hostname,
            "certificate-authority-data": self.tls["caData"],
        }
        user = {
            "token": self.config["bearerToken"],
            "client-certificate-data": self.tls["certData"],
            "client-key-data": self.tls["keyData"],
        }
        path = folder / f"kubeconfig-{self.name}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "c", "user": user}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        }
        path.write_text(json.dumps(config))
        return path

    def get(self, path: str, context: ssl.SSLContext, port: int) -> tuple[int, Any, bytes]:
        """Status, JSON body and the server's certificate of one GET; raises ssl.SSLError and OSError."""
        connection = http.client.HTTPSConnection(self.host, port, context=context, timeout=30)
        raw = socket.create_connection(("127.0.0.1", port), timeout=30)
        connection.sock = context.wrap_socket(raw, server_hostname=self.host)
        try:
            shown = connection.sock.getpeercert(binary_form=True)
            headers = {"Authorization": f"Bearer {self.config['bearerToken']}"}
            connection.request("GET", urlsplit(self.server).path + path, headers=headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text), shown or b""
        finally:
            connection.close()
