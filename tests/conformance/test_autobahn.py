"""The Autobahn suite's cases for WebSockets against both ends of a tunnel, through an echo.

A tunnel speaks binary only, so most cases that ask with text end with 1003 at once. In a second run they come
as binary messages (`disguise`), and then every rule of framing that they try is tried.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("kosoku", reason="there is no kosoku: make conformance installs it")

SUITE = Path(__file__).with_name("suite.py")
TEXT = 1

CASES = 301
GOOD = frozenset({"OK", "INFORMATIONAL", "NON-STRICT"})

PINGS_AT_ONCE = frozenset({"2.10", "2.11"})
"""Ten pings in one read: only the last is answered, which RFC 6455 §5.5.3 allows and the suite does not."""


BROKEN = ("3.1", "5.9", "5.10", "5.11", "5.12", "5.13", "5.14", "5.16", "5.17")
ENDED_BEFORE = {"7.1.4": 1000, **dict.fromkeys(BROKEN, 1002)}
"""Cases whose text comes in, or behind, a frame that has already ended the connection; their close codes."""


class Result(NamedTuple):
    """What the suite says of a case."""

    case: str
    verdict: str
    ending: str
    code: int | None
    sent: list[int]

    @property
    def good(self) -> bool:
        return self.verdict in GOOD and self.ending in GOOD


def run(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)


def results(process: subprocess.Popen[str]) -> dict[str, Result]:
    assert process.stdout is not None
    found = [Result(*json.loads(line)) for line in process.stdout]
    assert len(found) == CASES
    return {each.case: each for each in found}


@pytest.fixture(scope="module")
def ports() -> Iterator[list[str]]:
    """Where the server's end listens: as it is, and with text in disguise."""
    with run("-m", "tests.conformance.echo", "accept") as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()
        process.kill()


@pytest.fixture(scope="module", params=["server", "agent"])
def plain(request: pytest.FixtureRequest, ports: list[str]) -> dict[str, Result]:
    return ask_server(ports[0]) if request.param == "server" else ask_agent()


@pytest.fixture(scope="module", params=["server", "agent"])
def disguised(request: pytest.FixtureRequest, ports: list[str]) -> dict[str, Result]:
    return ask_server(ports[1]) if request.param == "server" else ask_agent("disguised")


def ask_server(port: str) -> dict[str, Result]:
    with run(str(SUITE), "against", port) as suite:
        return results(suite)


def ask_agent(*how: str) -> dict[str, Result]:
    with run(str(SUITE), "serve") as suite:
        assert suite.stdout is not None
        port = suite.stdout.readline().strip()
        with run("-m", "tests.conformance.echo", "connect", port, *how) as agent:
            assert agent.wait() == 0
        return results(suite)


def test_what_is_not_text_is_taken_as_the_suite_says(plain: dict[str, Result]) -> None:
    bad = {each.case for each in plain.values() if not each.good and TEXT not in each.sent}
    assert bad == PINGS_AT_ONCE


def test_text_is_refused_with_1003(plain: dict[str, Result]) -> None:
    asked = {each.case: each.code for each in plain.values() if TEXT in each.sent}
    others = {case: code for case, code in asked.items() if code != 1003}
    assert len(asked) > 200
    assert others == ENDED_BEFORE


def test_every_case_of_framing_holds_for_binary_messages(disguised: dict[str, Result]) -> None:
    bad = {each.case for each in disguised.values() if not each.good}
    # Binary messages need not be UTF-8, and most of the cases of chapter 6 are about messages that are not.
    assert {case for case in bad if not case.startswith("6.")} == PINGS_AT_ONCE
