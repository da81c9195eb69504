"""A clean environment, a readable file, and the command line as a function."""

import os
from dataclasses import dataclass

import pytest
import trustme

from argotun import cli
from argotun.options.load import PLATFORM

OTHER_NAMES = ("CLUSTERS", "SERVER_URL", "TOKEN", "HTTPS_PROXY", "NO_PROXY", *PLATFORM)


@dataclass
class Outcome:
    code: int
    out: str
    err: str
    config: object = None


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("ARGOTUN_") or name.upper() in OTHER_NAMES:
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path):
    """A readable file, for every option that wants one."""
    path = tmp_path / "some.pem"
    path.write_text("content\n")
    return str(path)


@pytest.fixture(scope="session")
def pem(tmp_path_factory):
    """A CA's certificate, for what reads one."""
    path = tmp_path_factory.mktemp("pem") / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def argotun(monkeypatch, capsys, tmp_path, file, pem):
    """Run `main` with FILE, PEM, DIR and CONFIG in arguments replaced, up to where a mode would begin."""

    def run(argv, environ=(), config_file=None):
        started = []
        monkeypatch.setattr(cli, "run", lambda loaded: started.append(loaded.config) or 0)
        names = {"FILE": file, "PEM": pem, "DIR": str(tmp_path)}
        if config_file is not None:
            path = tmp_path / "argotun.yaml"
            path.write_bytes(
                config_file if isinstance(config_file, bytes) else fill(config_file, names).encode()
            )
            argv = [*argv, "--config", str(path)]
            names["CONFIG"] = str(path)
        for name, value in dict(environ).items():
            monkeypatch.setenv(name, fill(value, names))
        code = cli.main([fill(word, names) for word in argv])
        seen = capsys.readouterr()
        return Outcome(code, seen.out, seen.err, started[0] if started else None)

    return run


def fill(text, names):
    for name, value in names.items():
        text = text.replace(name, value)
    return text
