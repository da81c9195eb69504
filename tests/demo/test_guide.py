"""The demo as a process: what it shows, what it leaves behind, and that a step that shows nothing fails."""

import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import gevent
import pytest
import yaml

from argotun.demo import guide, steps
from argotun.demo.client import CLIENT_TOKEN, Client
from argotun.demo.stage import STAND_IN_USER
from argotun.demo.standin import StandIn

trustme = pytest.importorskip("trustme", reason="trustme is not installed")

CLONE = Path(__file__).resolve().parents[2]
SECONDS = 60


@pytest.fixture
def demo(tmp_path):
    """Start a demo with its temporary files in `tmp_path`; what is still running ends with the test."""
    running = []
    temporary = tmp_path / "temporary"
    temporary.mkdir()

    def start(*options, stderr=subprocess.PIPE, **environ):
        process = subprocess.Popen(
            [sys.executable, "argotun.py", "--mode", "demo", *options],
            cwd=CLONE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, "TMPDIR": str(temporary), **environ},
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()
    assert list(temporary.iterdir()) == []


def finish(process):
    with gevent.Timeout(SECONDS):
        out, err = process.communicate()
    return process.returncode, out, err


def too_wide(out):
    """The lines of more than 80 columns, but for a word that is longer by itself."""
    return [line for line in out.splitlines() if len(line) > 80 and len(line.split()) > 1]


def read_until(process, words):
    lines = []
    with gevent.Timeout(SECONDS):
        while not lines or words not in lines[-1]:
            line = process.stdout.readline()
            assert line, "".join(lines) + process.stderr.read()
            lines.append(line)
    return "".join(lines)


# In one go


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not on PATH")
def test_demo_once_shows_what_it_claims(demo):
    code, out, err = finish(demo("--demo-once"))
    assert (code, err) == (0, "")
    assert "mutual TLS" in out
    assert "NOT encrypted" not in out
    for line in (
        r"→ 200 gitVersion \S+argotun-stand-in",
        r"→ 201 Namespace shop",
        r"→ 201 Deployment web",
        r"watch: ADDED Deployment web after \d+ ms, 0 of 2",
        r"watch: MODIFIED Deployment web after \d+ ms, 2 of 2",
        rf"the client sent +Authorization: Bearer {CLIENT_TOKEN}",
        r"arrived at the API +Authorization: Bearer (?!argocd)",
        rf"takes it for +{STAND_IN_USER}",
        r"→ 503 ServiceUnavailable: argotun: ",
        r"✓ Every step was checked",
    ):
        assert re.search(line, out), f"{line}\n{out}"
    assert out.count("\n   ✓ ") == len(steps.STAND_IN_STEPS)
    assert len(out.splitlines()) < 60
    assert "\x1b" not in out
    assert too_wide(out) == []


def test_demo_without_openssl_works_and_says_it_is_not_encrypted(demo, tmp_path):
    code, out, err = finish(demo("--demo-once", PATH=str(tmp_path)))
    assert (code, err) == (0, "")
    assert "mutual TLS" not in out
    assert out.count("NOT encrypted") == 2
    assert "openssl" in out
    assert too_wide(out) == []


def test_demo_works_on_a_terminal_of_few_characters(demo):
    assert finish(demo("--demo-once", PYTHONIOENCODING="ascii"))[0] == 0


# Staying up


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_stays_up_until_it_is_ended(demo, number):
    process = demo()
    read_until(process, "Ctrl-C ends it.")
    process.send_signal(number)
    code, out, err = finish(process)
    assert (code, err) == (0, "")
    assert "nothing of it is left" in out


def test_the_last_words_are_the_demos_own(demo):
    process = demo("--log-level", "info", stderr=subprocess.STDOUT)
    out = read_until(process, "Ctrl-C ends it.")
    process.send_signal(signal.SIGINT)
    code, rest, _ = finish(process)
    assert code == 0
    assert "server: agent gone" in rest
    assert (out + rest).endswith("\nThe demo ends; nothing of it is left.\n")


def test_what_the_stand_in_cannot_do_is_said(demo):
    _, out, _ = finish(demo("--demo-once"))
    assert "It has no nodes and no RBAC, and refuses exec, logs and port-forward." in out


@pytest.fixture
def to_copy(demo):
    """The lines that a running demo offers for another terminal."""
    process = demo()
    out = read_until(process, "Ctrl-C ends it.")
    assert too_wide(out) == []
    lines = [line.strip() for line in out.partition("another terminal:\n")[2].splitlines()[:-1]]
    assert re.fullmatch(r"export DEMO=http://127\.0\.0\.1:\d+", lines[0])
    assert all("$DEMO/" in line and "127.0.0.1" not in line for line in lines[1:])
    yield lines
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 0


@pytest.mark.parametrize("shell", [["bash", "--norc"], ["zsh", "-f"]], ids=lambda shell: shell[0])
def test_the_lines_to_copy_work_as_they_stand(to_copy, shell, tmp_path):
    needed = [shell[0], "curl", "kubectl"]
    missing = [program for program in needed if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)}: not on PATH")
    pasted = "".join(
        f"{line}{' --request-timeout=1s' if '--watch' in line else ''}\necho code=$?\n" for line in to_copy
    )
    environ = {**os.environ, "KUBECONFIG": os.devnull, "HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        shell, input=pasted, capture_output=True, text=True, timeout=SECONDS, env=environ, check=False
    )
    said = done.stdout.split("code=0\n")
    assert len(said) == len(to_copy) + 1, done.stdout + done.stderr
    assert len(to_copy) == 7
    wanted = ("", "hello", "deployment.apps/web", "web", "image updated", '"demo"', 'cluster="demo"')
    for line, words, came in zip(to_copy, wanted, said, strict=False):
        assert words in came, f"{line}: {came}"


# With a kubeconfig


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def cluster(authority, request):
    """A stand-in in the place of the user's cluster, over TLS: it asks for a token, or for a certificate."""
    asked = getattr(request, "param", "token")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.configure_trust(tls)
    tls.verify_mode = ssl.CERT_REQUIRED if asked == "certificate" else ssl.CERT_NONE
    api = StandIn(tokens={"their-token": "them"} if asked == "token" else None, tls=tls)
    api.start()
    yield api
    api.stop()


@pytest.fixture
def kubeconfig(cluster, authority, tmp_path):
    def write(user):
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        server = {"server": "https://{}:{}".format(*cluster.address), "certificate-authority": "ca.pem"}
        content = {
            "current-context": "theirs",
            "contexts": [{"name": "theirs", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": server}],
            "users": [{"name": "u", "user": user}],
        }
        (tmp_path / "config").write_text(yaml.safe_dump(content))
        return str(tmp_path / "config")

    return write


def namespaces(api):
    from argotun.demo.resources import NAMESPACES

    return [obj["metadata"]["name"] for obj in api.store.objects(NAMESPACES)]


def test_demo_with_a_token_works_and_leaves_nothing(demo, kubeconfig, cluster):
    before = namespaces(cluster)
    code, out, err = finish(demo("--demo-once", "--kubeconfig", kubeconfig({"token": "their-token"})))
    assert (code, err) == (0, ""), out
    assert out.index("What will be done there") < out.index("POST /api/v1/namespaces")
    made = [seen for seen in cluster.seen if (seen.method, seen.path) == ("POST", "/api/v1/namespaces")]
    assert [seen.headers["authorization"] for seen in made] == ["Bearer their-token"]
    assert "text is now 'hello again'" in out
    assert re.search(r"takes it for +them", out)
    assert re.search(r"namespace argotun-demo-\w+ and what was in it are gone", out)
    assert namespaces(cluster) == before
    assert not any(CLIENT_TOKEN in value for seen in cluster.seen for value in seen.headers.values())
    assert too_wide(out) == []


@pytest.mark.parametrize("cluster", ["certificate"], indirect=True)
def test_demo_with_a_client_certificate_works(demo, kubeconfig, cluster, authority, tmp_path):
    pair = authority.issue_cert("them@example.org", common_name="certified")
    pair.private_key_and_cert_chain_pem.write_to_path(tmp_path / "pair.pem")
    user = {"client-certificate": "pair.pem", "client-key": "pair.pem"}
    code, out, err = finish(demo("--demo-once", "--kubeconfig", kubeconfig(user)))
    assert (code, err) == (0, ""), out
    assert cluster.seen
    assert not any("authorization" in seen.headers for seen in cluster.seen)


def test_a_refused_credential_is_said(demo, kubeconfig, cluster):
    before = namespaces(cluster)
    code, out, err = finish(demo("--demo-once", "--kubeconfig", kubeconfig({"token": "wrong"})))
    assert (code, err) == (1, "")
    assert "   ✗ FAILED: expected 201, got 401 Unauthorized" in out
    assert "nothing was made" in out
    assert namespaces(cluster) == before


def test_an_interrupted_demo_deletes_its_namespace(demo, kubeconfig, cluster):
    before = namespaces(cluster)
    process = demo("--kubeconfig", kubeconfig({"token": "their-token"}))
    read_until(process, "→ 201 Namespace argotun-demo-")
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert code in (0, 130), out + err
    assert "are gone" in out
    assert "Traceback" not in err
    assert namespaces(cluster) == before


def test_an_unusable_kubeconfig_is_exit_code_two(demo):
    code, out, err = finish(demo("--demo-once", "--kubeconfig", "/nope"))
    assert (code, out) == (2, "")
    assert err.startswith("argotun: --kubeconfig: '/nope' is not valid")


# The checks themselves


class _Scene:
    """A scene whose requests go to a stand-in directly, with no tunnel to hide the client's credential."""

    namespace = "shop"
    made = False

    def __init__(self, api):
        self.stage = self
        self.stand_in = api
        self.agent_token = "agent-token"
        self.url = self.tunnel_url = "http://{}:{}".format(*api.address)
        self.client = Client(self.url)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (steps.credentials, "takes the request for one of 'system:anonymous'"),
        (steps.refuse, "expected 503, got 404"),
    ],
)
def test_a_step_without_a_tunnel_fails(stand_in, step, words):
    with pytest.raises(steps.NotShown, match=words):
        step(_Scene(stand_in), lambda text: None)


def test_a_step_that_lets_the_client_token_through_fails(monkeypatch):
    api = StandIn(tokens={CLIENT_TOKEN: STAND_IN_USER})
    api.start()
    try:
        with pytest.raises(steps.NotShown, match="agent's token"):
            steps.credentials(_Scene(api), lambda text: None)
    finally:
        api.stop()


def test_a_deployment_that_never_becomes_ready_fails_its_step(monkeypatch):
    monkeypatch.setattr(steps, "EVENT_TIMEOUT", 0.3)
    api = StandIn(ready_after=3600)
    api.start()
    try:
        scene = _Scene(api)
        steps.create(scene, lambda text: None)
        with pytest.raises(guide.ArgotunError, match="did not show it"):
            steps.deploy(scene, lambda text: None)
    finally:
        api.stop()
