"""Servers with the certificates that `--mode pki` makes for them."""

import shutil
from pathlib import Path

import pytest

from argotun.config import PkiConfig
from argotun.config.network import parse_server_url
from argotun.errors import ConfigError
from argotun.pki.folder import Folder
from tests.redis_server import RedisServer
from tests.replicas import Joined

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="the openssl program is not installed")


class Made(Joined):
    """Replicas with certificates of a folder of `--mode pki`."""

    def __init__(self, url: str, folder: Path, **peer: str) -> None:
        super().__init__(url)
        files = {
            "peer_cert": "replicas/tls.crt",
            "peer_key": "replicas/tls.key",
            "peer_ca": "replicas/ca.crt",
        }
        files |= {"tls_cert": "server.crt", "tls_key": "server.key", "tls_client_ca": "ca.crt"} | peer
        self._peer_options |= {option: str(folder / file) for option, file in files.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pki")
    Folder(
        PkiConfig(pki_folder=str(path), pki_server=parse_server_url("wss://127.0.0.1"), pki_replicas=True)
    ).fill()
    return path


def test_servers_link_with_what_was_made_for_them(redis_server: RedisServer, folder: Path) -> None:
    with Made(redis_server.url, folder) as made:
        assert [made.meets(number) for number in range(2)] == [1, 1]


def test_no_server_takes_the_ca_of_agents_for_that_of_replicas(folder: Path) -> None:
    own = {"peer_ca": "ca.crt", "peer_cert": "server.crt", "peer_key": "server.key"}
    with pytest.raises(ConfigError, match="a CA for replicas only"):
        Made("redis://127.0.0.1:1", folder, **own)._start(0, None)
