"""The parts of `make nodes` that need neither root nor a node."""

from pathlib import Path

import pytest

from tests.nodes import images, network, rig
from tests.nodes.network import CUSTOMER, MANAGEMENT


def test_the_guide_installs_the_server_before_the_agent() -> None:
    keys, pki, server, agent = rig.blocks(rig.WAY)
    assert "jwks" in keys
    assert "--pki-keys customer-a=" in pki
    assert "helm --kube-context management" in server
    assert "helm --kube-context customer-a" in agent


def test_the_contexts_of_the_guide_are_those_of_the_nodes() -> None:
    assert (MANAGEMENT.name, CUSTOMER.name) == ("management", "customer-a")
    assert network.PORT == 443


def test_the_firewall_accepts_one_way_only() -> None:
    accepting = [line.split() for line in network.FIREWALL.splitlines() if line.endswith("accept")]
    assert accepting == [
        ["ct", "state", "established,related", "accept"],
        f'iifname "customer-a" ip daddr {network.BALANCER} tcp dport 443 accept'.split(),
    ]
    assert "policy drop" in network.FIREWALL


def test_a_stripped_root_has_python_and_nothing_else_to_run(tmp_path: Path) -> None:
    for name in ("usr/bin", "usr/sbin", "usr/lib", "etc/ssl/certs", "usr/share/ca-certificates/mozilla"):
        (tmp_path / name).mkdir(parents=True)
    for name in (f"python{images.PYTHON}", "sh", "perl"):
        (tmp_path / "usr/bin" / name).touch()
    (tmp_path / "usr/share/ca-certificates/mozilla/a.crt").write_text("A\n")
    try:
        images.strip(tmp_path)
    except PermissionError:
        pytest.skip("only root may give a folder to the image's user")
    assert {each.name for each in (tmp_path / "usr/bin").iterdir()} == {"python3", f"python{images.PYTHON}"}
    assert (tmp_path / "etc/ssl/certs/ca-certificates.crt").read_text() == "A\n"
    assert "nonroot:x:65532:65532:" in (tmp_path / "etc/passwd").read_text()
    assert (tmp_path / "bin").readlink() == Path("usr/bin")


def test_a_root_is_kept_under_a_name_that_its_packages_change() -> None:
    assert images.archive(images.BUILD) != images.archive(images.RUN)
    fewer = images.Base(images.RUN.name, images.RUN.variant, images.RUN.packages[1:])
    assert images.archive(fewer) != images.archive(images.RUN)
