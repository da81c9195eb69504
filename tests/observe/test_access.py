"""Access lines: the documented form, safe whatever a client sends, and no cost when switched off."""

import json
import os
import re
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argotun.observe import lines as module
from argotun.observe.access import AccessLog
from argotun.observe.request import Request

AUDIT = b"4a6f2c1e-1111-2222-3333-444455556666"


def asked(
    cluster: str = "dev",
    method: bytes = b"GET",
    target: bytes = b"/",
    audit_id: bytes = b"",
    stream: int = 1,
    **facts: object,
) -> Request:
    """The record of a request that is over."""
    request = Request(0.0, cluster=cluster, method=method, target=target, audit_id=audit_id)
    request.stream = stream
    request.status = 200
    for name, value in facts.items():
        setattr(request, name, value)
    return request


REQUEST = asked(
    target=b"/api/v1/pods?labelSelector=secret",
    audit_id=AUDIT,
    stream=7,
    bytes_in=12,
    bytes_out=1024,
    ended=0.00125,
)
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture
def output(tmp_path: Path) -> BinaryIO:
    with open(tmp_path / "access", "w+b", buffering=0) as file:
        yield file


def written(output: BinaryIO) -> str:
    output.seek(0)
    return output.read().decode()


def line(fmt: str, request: Request) -> str:
    """The one line of a request, without a file."""
    lines: list[str] = []
    with open(os.devnull, "wb") as nowhere:
        log = AccessLog(True, fmt, nowhere)
        log._write = lines.append
        log.request(request)
    (only,) = lines
    return only


def test_text_has_its_documented_form(output: BinaryIO) -> None:
    log = AccessLog(True, "text", output)
    log.request(REQUEST)
    log.close()
    assert re.fullmatch(
        f"{STAMP} INFO  access: request cluster=dev method=GET path=/api/v1/pods status=200 bytes_in=12"
        f" bytes_out=1024 seconds=0.001250 stream=7 audit_id={AUDIT.decode()}\n",
        written(output),
    )


def test_json_has_its_documented_form(output: BinaryIO) -> None:
    log = AccessLog(True, "json", output)
    log.request(REQUEST)
    log.close()
    entry = json.loads(written(output))
    assert re.fullmatch(STAMP, entry.pop("ts"))
    assert entry == {
        "level": "info",
        "logger": "access",
        "msg": "request",
        "cluster": "dev",
        "method": "GET",
        "path": "/api/v1/pods",
        "status": 200,
        "bytes_in": 12,
        "bytes_out": 1024,
        "seconds": 0.00125,
        "stream": 7,
        "audit_id": AUDIT.decode(),
    }


@pytest.mark.parametrize(("fmt", "shown"), [("text", "audit_id=-"), ("json", '"audit_id": null')])
def test_a_missing_audit_id_shows_as_missing(output: BinaryIO, fmt: str, shown: str) -> None:
    log = AccessLog(True, fmt, output)
    log.request(asked())
    log.close()
    assert shown in written(output)


@pytest.mark.parametrize("fmt", ["text", "json"])
def test_lines_keep_their_order(output: BinaryIO, fmt: str) -> None:
    log = AccessLog(True, fmt, output)
    for stream in range(500):
        log.request(asked(stream=stream))
    log.close()
    found = re.findall(r'stream(?:=|": )(\d+)', written(output))
    assert found == [str(stream) for stream in range(500)]
    assert log.dropped == 0


def test_a_switched_off_log_writes_nothing_and_runs_no_formatter(output: BinaryIO) -> None:
    log = AccessLog(False, "text", output)
    log.request(REQUEST)
    log.close()
    assert written(output) == ""
    assert log.dropped == 0


def test_lines_that_find_no_room_are_counted(output: BinaryIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 1000)
    log = AccessLog(True, "text", output)
    for _ in range(100):
        log.request(REQUEST)
    log.close()
    lines = written(output).splitlines()
    assert 0 < len(lines) < 100
    assert log.dropped == 100 - len(lines)


@pytest.mark.parametrize(("fmt", "shown"), [("text", 'error="no agent\\nleft"'), ("json", '"error": "no ')])
def test_why_argotun_answered_itself_is_in_the_line(fmt: str, shown: str) -> None:
    assert shown in line(fmt, asked(error="no agent\nleft"))
    assert "error" not in line(fmt, asked())


@given(
    cluster=st.text(max_size=80),
    method=st.binary(max_size=20),
    path=st.binary(),
    audit=st.binary(),
    error=st.text(max_size=80),
)
def test_whatever_a_client_sends_stays_one_line(
    cluster: str, method: bytes, path: bytes, audit: bytes, error: str
) -> None:
    request = asked(cluster, method, path, audit, error=error)
    found = line("text", request)
    assert found.isascii()
    assert found[:-1].isprintable()
    assert found.endswith("\n")
    entry = json.loads(line("json", request))
    assert entry["path"] == path.partition(b"?")[0].decode("latin-1")
    assert entry["cluster"] == cluster
    assert entry["status"] == 200


def test_long_values_are_cut() -> None:
    for fmt in ("text", "json"):
        found = line(fmt, asked("c" * 60_000, b"GET", b"/" + b"a" * 60_000, b"i" * 60_000))
        assert len(found) < 10_000
        assert "200" in found
