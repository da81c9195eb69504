"""Certificates of a run: an authority and the certificates that it signs, as PEM files."""

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority of its own, with its certificate in FOLDER/NAME-ca.crt."""

    def __init__(self, name: str, folder: Path) -> None:
        self._ca = trustme.CA(organization_name=name)
        self._name = name
        self._folder = folder
        self.cert = folder / f"{name}-ca.crt"
        self._ca.cert_pem.write_to_path(str(self.cert))

    def key(self) -> Path:
        """The key of the authority itself, for a program that signs with it."""
        path = self._folder / f"{self._name}-ca.key"
        self._ca.private_key_pem.write_to_path(str(path))
        path.chmod(0o600)
        return path

    def issue(self, name: str, *hosts: str, group: str | None = None) -> Pair:
        """A certificate with that common name, for the hosts; to Kubernetes it is a user, in that group."""
        # A certificate for no name at all would carry an empty critical extension, which Go refuses.
        leaf = self._ca.issue_cert(*(hosts or (name,)), common_name=name, organization_name=group)
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        leaf.cert_chain_pems[0].write_to_path(str(pair.cert))
        leaf.private_key_pem.write_to_path(str(pair.key))
        pair.key.chmod(0o600)
        return pair
