"""What others use beside argotun: found or named, and started for real where it is there."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import certificates, client, crowd, peers, upstream
from bench.errors import BenchError
from bench.peers import chisel, frp, konnectivity, nginx, programs, rathole, remotedialer
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


@pytest.mark.parametrize("name", ["remotedialer", "chisel", "konnectivity", "frp", "rathole"])
def test_many_agents_of_one_process_come_and_come_back(
    ground: Ground, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (program := programs.given(name)) is None:
        pytest.skip(f"BENCH_{name.upper()} does not name its program: a build takes minutes")
    adapters = {"remotedialer": remotedialer, "chisel": chisel, "konnectivity": konnectivity}
    adapters |= {"frp": frp, "rathole": rathole}
    monkeypatch.setattr(crowd, "DOWN", 0.1)
    many = adapters[name].crowd(ground, program, 5)
    crowd.gather(many, 5)
    if many.cuts:
        assert 0 < crowd.cut(many, 5).last < crowd.LIMIT
    assert 0 <= crowd.restart(many, 5, ground.site).last < crowd.LIMIT


def test_a_program_of_go_is_built_anew_when_what_it_shares_with_others_changes(tmp_path: Path) -> None:
    module, shared = tmp_path / "peer", tmp_path / "shared"
    for folder in (module, shared):
        folder.mkdir()
        (folder / "go.mod").write_text("module some\n")
    (shared / "shared.go").write_text("package shared\n")
    assert b"package shared" not in programs.sources(module)
    (module / "go.mod").write_text("module some\nreplace shared => ../shared\n")
    assert b"package shared" in programs.sources(module)
    # frp's yamux is another module that the registry has.
    assert programs.sources(Path(programs.__file__).with_name("frp"))
