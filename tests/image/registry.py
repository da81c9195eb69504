"""A real registry on loopback: Debian's docker-registry, with TLS, and what a kubelet pulls from it."""

import os
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import requests
import trustme
import yaml

from bench.ports import free_port
from tests.e2e.harness.waiting import until
from tests.image.dockerfile import Image, MissingError, Stage, python_prefix

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
HOST = "127.0.0.1"


class PullError(Exception):
    """What a pod would say beside ImagePullBackOff."""


class Registry:
    """A registry that keeps what is pushed in `folder`; raises MissingError where it is not installed."""

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        program = shutil.which("docker-registry")
        if not program:
            raise MissingError("docker-registry is not installed (Debian: docker-registry)")
        folder.mkdir(parents=True)
        self.host = f"{HOST}:{free_port()}"
        ca = trustme.CA()
        certificate = ca.issue_cert(HOST)
        certificate.cert_chain_pems[0].write_to_path(folder / "tls.crt")
        certificate.private_key_pem.write_to_path(folder / "tls.key")
        self._trusted = folder / "trusted.pem"
        own = ssl.get_default_verify_paths().cafile
        self._trusted.write_bytes((Path(own).read_bytes() if own else b"") + ca.cert_pem.bytes())
        self.environment = {"SSL_CERT_FILE": str(self._trusted)}
        """What makes helm and buildah trust it."""
        settings = {
            "version": 0.1,
            "storage": {
                "filesystem": {"rootdirectory": str(folder / "storage")},
                "maintenance": {"readonly": {"enabled": read_only}},
            },
            "http": {
                "addr": self.host,
                "tls": {"certificate": str(folder / "tls.crt"), "key": str(folder / "tls.key")},
            },
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
        with (folder / "log").open("w") as log:
            self._process = subprocess.Popen(
                [program, "serve", folder / "config.yaml"], env={"PATH": os.environ["PATH"]},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            until("the registry answers", lambda: self._get("").ok)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End it; what it holds stays in the folder."""
        self._process.kill()
        self._process.wait()

    def pull(self, name: str, folder: Path) -> Image:
        """An image as a kubelet gets it, unpacked into `folder`; raises PullError."""
        host, _, path = name.partition("/")
        if host != self.host:
            raise PullError(f"{name}: there is no registry {host} here")
        repository, _, tag = path.rpartition(":")
        manifest = self._ask(f"{repository}/manifests/{tag}").json()
        folder.mkdir(parents=True, exist_ok=True)
        for layer in manifest["layers"]:
            blob = self._ask(f"{repository}/blobs/{layer['digest']}").content
            subprocess.run(["tar", "-xz", "-C", folder], input=blob, check=True)
        config = self._ask(f"{repository}/blobs/{manifest['config']['digest']}").json()["config"]
        return Image(folder, python_prefix(), stage(config))

    def digest(self, name: str) -> str:
        """What `repository:tag` is, as the registry says; raises PullError."""
        repository, _, tag = name.rpartition(":")
        return self._ask(f"{repository}/manifests/{tag}").headers["Docker-Content-Digest"]

    def _ask(self, path: str) -> requests.Response:
        answer = self._get(path)
        if not answer.ok:
            raise PullError(f"{path}: {answer.status_code} {answer.text.strip()}")
        return answer

    def _get(self, path: str) -> requests.Response:
        url, headers = f"https://{self.host}/v2/{path}", {"Accept": MANIFEST}
        # Not by way of a proxy of this machine.
        with requests.Session() as session:
            session.trust_env = False
            return session.get(url, headers=headers, verify=str(self._trusted), timeout=30)


def stage(config: dict[str, Any]) -> Stage:
    """What an image says that a container of it is."""
    return Stage(
        base="",
        name="",
        env=dict(each.split("=", 1) for each in config["Env"]),
        labels=config["Labels"],
        exposed=sorted(config["ExposedPorts"]),
        user=config["User"],
        entrypoint=config["Entrypoint"],
    )
