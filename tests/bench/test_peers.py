"""What others use beside argotun: found or named, and started for real where it is there."""

import shutil
from collections.abc import Iterator

import pytest

from bench import certificates, client, peers, upstream
from bench.errors import BenchError
from bench.peers import nginx, programs, remotedialer
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
    for name in ("CHISEL", "RATHOLE", "REMOTEDIALER"):
        monkeypatch.delenv(f"BENCH_{name}", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(programs, "CACHE", programs.CACHE / "nothing-is-here")
    found, left_out = peers.at_hand()
    assert [subject.name for subject in found] == ["nginx-hops"]
    assert left_out["chisel"] == "BENCH_CHISEL does not name its program"
    assert left_out["rathole"] == "there is no cargo to build it with"
    assert left_out["remotedialer"] == "there is no go to build it with"
    assert {"konnectivity", "frp"} <= left_out.keys()


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


def test_rancher_s_remotedialer_carries_a_request(ground: Ground) -> None:
    if (program := programs.given("remotedialer")) is None:
        pytest.skip("BENCH_REMOTEDIALER does not name its driver: a build takes minutes")
    running = remotedialer.start(ground, program)
    assert client.get(f"{running.url}/small", ground.certificates.ca)[0] == 200
