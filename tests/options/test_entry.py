"""The program as it is started: from a clone, as a module, with its real exit codes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from argotun import __version__, cli
from argotun.errors import ClustersError, DialError
from argotun.options import reference

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """What a clone holds of the program, where nothing is installed."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copy(ROOT / "argotun.py", folder)
    shutil.copytree(ROOT / "argotun", folder / "argotun", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def run(clone, *argv, cwd=None, **environ):
    command = [sys.executable, *argv]
    environ = {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", **environ}
    cwd = cwd or clone
    return subprocess.run(
        command, check=False, cwd=cwd, env=environ, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("argv", "environ", "sentence"),
    [
        (
            (),
            {},
            "--mode is not set: expected server, agent, demo, pki or status, or check server or check agent; "
            "--help tells what each does",
        ),
        (
            ("--mode", "demo", "--addr", ":1"),
            {},
            "--addr ':1' is for --mode server: expected an option of --mode demo",
        ),
        (
            ("--mode", "server"),
            {"CLUSTERS": "/no"},
            "--clusters (from CLUSTERS): '/no' is not valid: expected "
            "a readable file (No such file or directory)",
        ),
        (
            ("--mode", "agent", "--server", "http://h"),
            {},
            "--server: 'http://h' is not valid: expected the server's URL such as "
            "wss://tunnel.example.com/connect, with ws:// in place of http://",
        ),
    ],
)
def test_a_clone_refuses_with_one_sentence_and_exit_code_2(clone, argv, environ, sentence):
    done = run(clone, "argotun.py", *argv, **environ)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"argotun: {sentence}\n")


@pytest.mark.parametrize("argv", [("argotun.py",), ("-m", "argotun")])
def test_a_clone_runs_without_being_installed(clone, argv):
    assert run(clone, *argv, "--version").stdout == f"argotun {__version__}\n"


@pytest.mark.parametrize("environ", [{}, {"PYTHONSAFEPATH": "1"}])
def test_the_file_finds_its_own_package_from_any_folder(clone, tmp_path, environ):
    (tmp_path / "argotun").mkdir()
    (tmp_path / "argotun" / "__init__.py").write_text("raise SystemExit('the wrong package')")
    done = run(clone, clone / "argotun.py", "--version", cwd=tmp_path, **environ)
    assert (done.stdout, done.stderr) == (f"argotun {__version__}\n", "")


def test_everything_is_patched_before_anything_else_is_imported(clone):
    code = "import argotun.cli, socket, ssl, gevent.socket; print(socket.socket is gevent.socket.socket)"
    done = run(clone, "-W", "error", "-c", code)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_wrong_clusters_end_the_server_before_it_listens(clone):
    pytest.importorskip("argotun.server.app", reason="the server role is not there yet")
    clusters = '[{"id": "a", "token": "t0k-of-sixteen-ch"}, {"id": "a", "token": "s3cr3t-of-sixteen"}]'
    done = run(
        clone,
        "argotun.py",
        "--mode",
        "server",
        "--addr",
        "127.0.0.1:0",
        "--internal-addr",
        "127.0.0.1:0",
        CLUSTERS=clusters,
    )
    assert done.returncode == 2
    assert (
        "argotun: --clusters: clusters[1] (id 'a'), id: 'a' is not valid: expected an id that no other"
        in done.stderr
    )
    assert "s3cr3t" not in done.stderr


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ClustersError("--clusters", "x", "y"), 2, "argotun: --clusters: 'x' is not valid: expected y\n"),
        (DialError("nobody answers"), 1, "argotun: nobody answers\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_ends_a_mode_is_an_exit_code_and_no_traceback(monkeypatch, capsys, error, code, said):
    def fail(loaded):
        raise error

    monkeypatch.setattr(cli, "run", fail)
    assert cli.main(["--mode", "demo"]) == code
    assert capsys.readouterr().err == said


def test_the_mode_is_run_with_its_config_and_gives_the_exit_code(monkeypatch, tmp_path):
    (tmp_path / "some_mode.py").write_text("def run(config):\n    return 7 if config.demo_once else 8\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(cli.RUNNERS, cli.DemoConfig, "some_mode")
    monkeypatch.setattr("argotun.observe.logs.setup", lambda level, form: None)
    assert cli.main(["--mode", "demo", "--demo-once"]) == 7


def test_the_reference_is_what_the_table_says():
    written = (ROOT / "docs" / "options.md").read_text("utf-8")
    assert written == reference.reference(), (
        "write it again: python -m argotun.options.reference > docs/options.md"
    )
