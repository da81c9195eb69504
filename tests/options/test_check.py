"""`--check` on the command line: its short forms, its exit codes, and options that are wrong."""

import json

import pytest

CLUSTERS = '[{"id": "c1", "tokenSha256": "' + "ab" * 32 + '"}]'
SERVER = ("--clusters", CLUSTERS, "--addr", "127.0.0.1:0", "--internal-addr", "127.0.0.1:0")
MODE = ("--mode", "server")


@pytest.mark.parametrize(
    "argv",
    [
        ("--check", "--mode", "server"),
        ("--mode", "server", "--check"),
        ("--mode", "server", "--check=text"),
        ("server", "--check"),
        ("check", "server"),
        ("check", "--mode", "server"),
    ],
)
def test_a_check_walks_and_starts_nothing(argotun, argv):
    done = argotun([*argv, *SERVER])
    assert (done.code, done.err, done.config) == (0, "", None)
    assert "clusters        1 cluster: c1" in done.out


def test_the_mode_may_come_from_the_environment(argotun):
    assert argotun(["check", *SERVER], {"ARGOTUN_MODE": "server"}).code == 0


@pytest.mark.parametrize("argv", [("check", "server", "--check=json"), ("server", "--check", "json")])
def test_json_is_one_object(argotun, argv):
    done = argotun([*argv, *SERVER])
    assert json.loads(done.out)["mode"] == "server"


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_option_that_is_wrong_is_a_step_that_failed(argotun, form):
    done = argotun(["check", "server", f"--check={form}", "--clusters", "/no"])
    assert (done.code, done.err) == (1, "")
    assert "'/no' is not valid: expected a readable file" in " ".join(done.out.split())
    if form == "json":
        (step,) = json.loads(done.out)["steps"]
        assert (step["step"], step["result"]) == ("options", "failed")


def test_a_check_without_a_mode_says_which_there_are(argotun):
    done = argotun(["check", "--check=json"])
    assert done.code == 1
    assert json.loads(done.out)["steps"][0]["says"].startswith("--mode is not set")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("check", "demo"), "--check is for --mode server and --mode agent: demo has no use for it"),
        (("--check=yaml", "--mode", "server"), "--check is not set: expected no value, or --check=json"),
    ],
)
def test_what_cannot_be_checked_is_refused(argotun, argv, sentence):
    done = argotun(argv)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"argotun: {sentence}")


def test_a_warning_about_an_option_is_to_be_looked_at(argotun):
    done = argotun(["check", "server", "--check=json", *SERVER, "--idle-timeout", "5s"])
    (step,) = [each for each in json.loads(done.out)["steps"] if each["step"] == "options"]
    assert (done.code, step["result"]) == (0, "warning")
    assert "--idle-timeout 5s is risky" in step["says"]
