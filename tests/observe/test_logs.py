"""Log records: one line each that no peer can forge, and no credential in any of them."""

import json
import logging
import re
import sys
from collections.abc import Callable, Iterator

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from argotun.observe.logs import (
    MAX_FIELD,
    JsonFormatter,
    LineHandler,
    TextFormatter,
    fields,
    hide_secrets,
    setup,
    timestamp,
)

TIME = 1767322845.678
STAMP = "2026-01-02T03:00:45.678Z"


def record(message: str, *args: object, level: int = logging.INFO, **values: object) -> logging.LogRecord:
    made = logging.LogRecord("argotun.server", level, __file__, 1, message, args, None)
    made.created = TIME
    vars(made).update(fields(**values))
    return made


def failed(error: Exception) -> logging.LogRecord:
    """A record of `error` with its traceback."""
    made = record("it failed", level=logging.ERROR)
    try:
        raise error
    except type(error):
        made.exc_info = sys.exc_info()
    return made


def text(made: logging.LogRecord) -> str:
    return TextFormatter().format(made)


def parsed(made: logging.LogRecord) -> dict[str, object]:
    return json.loads(JsonFormatter().format(made))


def test_text_has_its_documented_form() -> None:
    line = text(record("agent connected", cluster="dev", version=2, rtt=0.25, note="two words", nothing=None))
    expected = (
        f'{STAMP} INFO  server: agent connected cluster=dev version=2 rtt=0.25 note="two words" nothing=None'
    )
    assert line == expected


def test_json_has_its_documented_form() -> None:
    assert parsed(record("agent connected", cluster="dev", version=2, up=True, nothing=None)) == {
        "ts": STAMP,
        "level": "info",
        "logger": "server",
        "msg": "agent connected",
        "cluster": "dev",
        "version": 2,
        "up": True,
        "nothing": None,
    }


def test_json_keeps_the_record_where_a_field_has_its_name() -> None:
    assert parsed(record("real", msg="forged", level_="x", ts="forged", logger="forged"))["msg"] == "real"


@pytest.mark.parametrize(
    ("level", "shown"),
    [(10, "DEBUG"), (20, "INFO "), (30, "WARN "), (40, "ERROR"), (50, "ERROR"), (5, "DEBUG")],
)
def test_levels_have_one_width(level: int, shown: str) -> None:
    assert text(record("x", level=level)) == f"{STAMP} {shown} server: x"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), object(), {"a": 1}, b"\xff\n", ("x",)])
def test_json_stays_json_whatever_a_field_holds(bad: object) -> None:
    line = JsonFormatter().format(record("x", bad=bad))
    assert json.loads(line, parse_constant=pytest.fail)["msg"] == "x"


HOSTILE = [
    "a\n2026-01-02T03:04:05.678Z INFO  server: forged",
    "a\r\nforged",
    "\x1b[2J\x1b[31mred",
    "\x00\x07\x7f\x9b",
    "line\u2028separator\u2029",
    "\u202egnp.exe",
    "half \ud800 surrogate",
]


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("place", ["message", "argument", "field"])
def test_a_peer_cannot_forge_a_line(hostile: str, place: str) -> None:
    made = {
        "message": lambda: record(hostile.replace("%", "%%")),
        "argument": lambda: record("from %s", hostile),
        "field": lambda: record("from", peer=hostile),
    }[place]()
    for line in (text(made), JsonFormatter().format(made)):
        assert line.isprintable(), ascii(line)
        assert line.splitlines() == [line]


@given(st.text(), st.text() | st.binary())
def test_any_text_stays_on_one_printable_line(message: str, value: str | bytes) -> None:
    line = text(record("%s", message, field=value))
    assert line.splitlines() == [line]
    assert not re.search("[\x00-\x1f\x7f-\x9f]", line)
    assert json.loads(JsonFormatter().format(record("%s", message, field=value)))["level"] == "info"


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_traceback_cannot_forge_a_line(hostile: str) -> None:
    lines = text(failed(ValueError(hostile))).splitlines()
    assert lines[0] == f"{STAMP} ERROR server: it failed"
    assert len(lines) > 3
    assert all(line.startswith("  | ") and line.isprintable() for line in lines[1:])


def test_json_carries_the_traceback_in_one_string() -> None:
    assert "ValueError: wrong" in str(parsed(failed(ValueError("wrong")))["exc"])


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_shown_as_text(kind: type) -> None:
    assert text(record("x", path=kind(b"/api"))).endswith(" path=/api")
    assert text(record("x", path=kind(b"/\xff"))).endswith(r' path="/\u00ff"')


def test_a_long_field_is_cut() -> None:
    assert len(text(record("x", path="p" * 100_000))) < MAX_FIELD * 2
    assert len(text(record("x", path=b"\xff" * 100_000))) < MAX_FIELD * 7


SECRET = "c2VjcmV0LXRva2Vu"
LEAKS = [
    f"Authorization: Bearer {SECRET}",
    f"bearer  {SECRET}",
    f"b'Bearer {SECRET}'",
    f"?auth=Bearer%20{SECRET}",
    f"Basic {SECRET}==",
    f"Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.{SECRET}, v4",
    f"eyJhbGciOi.{SECRET}.{SECRET}",
    f"https://user:{SECRET}@proxy:3128/",
    f"https://{SECRET}@proxy:3128/",
]


@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("show", [text, JsonFormatter().format], ids=["text", "json"])
def test_no_credential_is_shown(leak: str, show: Callable[[logging.LogRecord], str]) -> None:
    assert SECRET not in show(record(leak))
    assert SECRET not in show(record("got %s", leak))
    assert SECRET not in show(record("got", header=leak))
    assert SECRET not in show(record("got", header=leak.encode()))
    assert SECRET not in show(failed(ValueError(leak)))


@pytest.mark.parametrize("name", ["token", "authorization", "cookie", "password", "secret"])
def test_fields_with_a_secret_name_are_never_shown(name: str) -> None:
    assert SECRET not in text(record("x", **{name: SECRET}))
    assert SECRET not in str(parsed(record("x", **{name: SECRET})))


@pytest.mark.parametrize("harmless", ["agent connected", "https://api:6443/version", "user@host", "a.b.c"])
def test_what_is_no_credential_stays(harmless: str) -> None:
    assert hide_secrets(harmless) == harmless


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1767322845.9996, "2026-01-02T03:00:46.000Z"),
        (1767322846.0, "2026-01-02T03:00:46.000Z"),
        (1767322845.0, "2026-01-02T03:00:45.000Z"),
    ],
)
def test_the_clock_shows_utc_with_milliseconds(seconds: float, shown: str) -> None:
    timestamp(TIME)
    assert timestamp(seconds) == shown


@pytest.fixture
def clean_logging() -> Iterator[None]:
    """Undo what `setup` does to the process."""
    root = logging.getLogger()
    level, ours = root.level, logging.getLogger("argotun").level
    yield
    for handler in [each for each in root.handlers if isinstance(each, LineHandler)]:
        root.removeHandler(handler)
    root.setLevel(level)
    logging.getLogger("argotun").setLevel(ours)
    logging.captureWarnings(False)
    vars(gevent.get_hub()).pop("handle_error", None)


@pytest.mark.usefixtures("clean_logging")
class TestSetup:
    def test_goes_to_stderr_only(self, capfd: pytest.CaptureFixture[str]) -> None:
        setup("info", "text")
        logging.getLogger("argotun.server").info("here")
        out, err = capfd.readouterr()
        assert out == ""
        assert err.endswith("INFO  server: here\n")

    def test_twice_writes_each_line_once(self, capfd: pytest.CaptureFixture[str]) -> None:
        setup("info", "text")
        setup("info", "json")
        logging.getLogger("argotun.server").info("here")
        assert json.loads(capfd.readouterr().err)["msg"] == "here"
        assert [type(each) for each in logging.getLogger().handlers].count(LineHandler) == 1

    @pytest.mark.parametrize(
        ("level", "shown"),
        [
            ("debug", ["debug", "info", "warning", "error"]),
            ("info", ["info", "warning", "error"]),
            ("warn", ["warning", "error"]),
            ("error", ["error"]),
        ],
    )
    def test_levels(self, capfd: pytest.CaptureFixture[str], level: str, shown: list[str]) -> None:
        setup(level, "json")
        for name in ("debug", "info", "warning", "error"):
            getattr(logging.getLogger("argotun.server"), name)(name)
        assert [json.loads(line)["msg"] for line in capfd.readouterr().err.splitlines()] == shown

    @pytest.mark.parametrize(("level", "shown"), [("debug", ["info", "warning"]), ("info", ["warning"])])
    def test_libraries_are_quieter(
        self, capfd: pytest.CaptureFixture[str], level: str, shown: list[str]
    ) -> None:
        setup(level, "json")
        for name in ("debug", "info", "warning"):
            getattr(logging.getLogger("urllib3.connectionpool"), name)(name)
        assert [json.loads(line)["msg"] for line in capfd.readouterr().err.splitlines()] == shown

    def test_what_ends_a_greenlet_is_logged(self, capfd: pytest.CaptureFixture[str]) -> None:
        setup("info", "json")

        def broken() -> None:
            raise ValueError(f"Bearer {SECRET}\nforged")

        gevent.spawn(broken).join()
        entry = json.loads(capfd.readouterr().err)
        assert entry["level"] == "error"
        assert "ValueError: Bearer [hidden]" in entry["exc"]
        assert "broken" in entry["where"]
