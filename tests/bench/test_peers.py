"""What others use beside argotun: found or named, and started for real where it is there."""

import shutil
from collections.abc import Iterator

import pytest

from bench import certificates, client, peers, upstream
from bench.errors import BenchError
from bench.peers import chisel, frp, konnectivity, nginx, programs, remotedialer
from bench.site import Site
from bench.subject import Ground


@pytest.fixture
def ground() -> Iterator[Ground]:
    if missing := [name for name in ("nginx", "openssl") if shutil.which(name) is None]:
        pytest.skip(f"there is no {missing[0]}")
    with Site() as site:
        made = certificates.make(site.folder)
        yield Ground(site, upstream.start(site, made, 512), made)


def test_a_peer_that_is_not_at_hand_is_named_with_why(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CHISEL", "FRP", "KONNECTIVITY", "RATHOLE", "REMOTEDIALER"):
        monkeypatch.delenv(f"BENCH_{name}", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(programs, "CACHE", programs.CACHE / "nothing-is-here")
    found, left_out = peers.at_hand()
    assert [subject.name for subject in found] == ["nginx-hops"]
    assert left_out["chisel"] == "there is no go to build it with"
    assert left_out["frp"] == "there is no go to build it with"
    assert left_out["konnectivity"] == "there is no go to build it with"
    assert left_out["rathole"] == "there is no cargo to build it with"
    assert left_out["remotedialer"] == "there is no go to build it with"


def test_a_program_that_cannot_be_run_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CHISEL", "/nowhere/chisel")
    # Nothing that could be built.
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BenchError, match="BENCH_CHISEL=/nowhere/chisel"):
        peers.at_hand()


def test_nginx_as_two_hops_carries_a_request_with_mutual_tls_between(ground: Ground) -> None:
    running = nginx.start(ground)
    status, body = client.get(f"{running.url}/small", ground.certificates.ca)
    assert (status, len(body)) == (200, upstream.SMALL)
    config = (ground.site.folder / "hop-server.conf").read_text()
    second = config.split("upstream next { server ")[1].split(";")[0]
    status, _ = client.get(f"https://{second}/small", ground.certificates.ca)
    assert status == 400, "the second hop takes a request without a certificate"


@pytest.mark.parametrize("name", ["remotedialer", "chisel", "konnectivity", "frp"])
def test_a_program_written_in_go_carries_a_request(ground: Ground, name: str) -> None:
    if (program := programs.given(name)) is None:
        pytest.skip(f"BENCH_{name.upper()} does not name its program: a build takes minutes")
    adapters = {"remotedialer": remotedialer, "chisel": chisel, "konnectivity": konnectivity, "frp": frp}
    running = adapters[name].start(ground, program)
    assert client.get(f"{running.url}/small", ground.certificates.ca)[0] == 200
