"""kubectl's own test/cmd: shell scripts with some ninety cases, in a copy that asks an API that is there."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.e2e.harness.binaries import Binaries
from tests.e2e.harness.http import Endpoint
from tests.e2e.harness.processes import die_with_parent

from .programs import sources
from .site import Site
from .verdicts import Outcome, of_junit

EXPLAINED = Path(__file__).with_name("kubectl-scripts.explained")
NEEDED = ("bash", "curl", "jq", "openssl", "script", "tput")
TOKEN = "admin-token"  # what the scripts' own file of tokens gives to an administrator

_SCRIPT = Path(__file__).with_suffix(".sh")
_PARTS = ("hack", "test/cmd", "test/fixtures", "test/e2e/testing-manifests", "third_party/forked/shell2junit")
_EDITS = {
    "test/cmd/legacy-script.sh": (
        ('"https://127.0.0.1:${SECURE_API_PORT}" ', '"${SUITES_SERVER}" ${SUITES_FLAGS} '),
        # Without it kubectl leaves out the path of the server's URL, which argotun's has.
        ("kubectl proxy --port=0", "kubectl proxy --append-server-path --port=0"),
    ),
    "test/cmd/authorization.sh": (("https://localhost:${SECURE_API_PORT}", "${SUITES_SERVER}"),),
    "test/cmd/discovery.sh": (("https://127.0.0.1:${SECURE_API_PORT}", "${SUITES_SERVER}"),),
    # A run needs no internet, and the file is the same.
    "test/cmd/generic-resources.sh": (
        ("https://raw.githubusercontent.com/kubernetes/kubernetes/master/", ""),
    ),
}
_SECONDS = 3600.0


def copy(folder: Path, binaries: Binaries) -> None:
    """Lay what the scripts need of Kubernetes' sources into a folder, with the server's URL left open."""
    theirs = sources("k8s.io/kubernetes")
    for part in _PARTS:
        shutil.copytree(theirs / part, folder / part, copy_function=shutil.copy)
    for file, edits in _EDITS.items():
        text = (folder / file).read_text()
        for old, new in edits:
            assert old in text, (file, old)
            text = text.replace(old, new)
        (folder / file).chmod(0o644)  # it came from where nothing may be written
        (folder / file).write_text(text)
    for path in (folder, *folder.rglob("*")):
        # A module's files come without their modes, and some are plugins of kubectl.
        runs = path.is_dir() or path.read_bytes()[:2] == b"#!"
        path.chmod(0o755 if runs else 0o644)
    programs = folder / "_output" / "bin"
    programs.mkdir(parents=True)
    for name in ("kubectl", "kubectl-convert"):
        (programs / name).symlink_to(binaries[name])


def site(binaries: Binaries, folder: Path, copied: Path) -> Site:
    """A control plane as hack/make-rules/test-cmd.sh starts it, with the files of a copy."""
    made = Site(
        binaries,
        folder,
        "--authorization-mode=AlwaysAllow",
        "--enable-admission-plugins=LimitRanger,ResourceQuota",
        "--disable-admission-plugins=ServiceAccount,DefaultStorageClass,DefaultTolerationSeconds,"
        "MutatingAdmissionWebhook,ValidatingAdmissionWebhook,StorageObjectInUseProtection",
        f"--client-ca-file={folder / 'client-ca.crt'}",
        f"--token-auth-file={copied / 'hack/testdata/auth-tokens.csv'}",
        token=TOKEN,
    )
    # The scripts look for their own authority among those that the API server names.
    theirs = (copied / "hack/testdata/ca/ca.crt").read_text()
    (folder / "client-ca.crt").write_text(f"{theirs}\n{made.ca.read_text()}")
    return made


def begin(made: Site, copied: Path) -> None:
    """Run the controllers, which sign with the scripts' own authority."""
    ca = copied / "hack/testdata/ca"
    made.start_controllers(
        f"--cluster-signing-cert-file={ca / 'ca.crt'}", f"--cluster-signing-key-file={ca / 'ca.key'}"
    )


def run(endpoint: Endpoint, api_port: int, copied: Path, folder: Path, what: str = "") -> dict[str, Outcome]:
    """Run the cases against the API at `endpoint`; `what` names some of them, as WHAT does for Kubernetes."""
    folder.mkdir()
    flags = ""
    if pair := endpoint.certificate:
        flags = f"--client-certificate={pair.cert} --client-key={pair.key}"
        (folder / ".curlrc").write_text(f"cert = {pair.cert}\nkey = {pair.key}\n")
    # Some cases take whatever certificate is there, where their own API server would have left its.
    shutil.copy(copied / "hack/testdata/ca/ca.crt", folder / "apiserver.crt")
    with (folder / "log").open("wb") as log:
        subprocess.run(
            ["bash", _SCRIPT],
            cwd=copied,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=_SECONDS,
            check=False,
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": str(folder),
                "CURL_HOME": str(folder),
                "TMPDIR": str(folder),
                "TERM": "xterm",
                "KUBE_JUNIT_REPORT_DIR": str(folder),
                "SECURE_API_PORT": str(api_port),
                "SUITES_SERVER": endpoint.url,
                "SUITES_FLAGS": flags,
                "WHAT": what,
            },
            preexec_fn=die_with_parent,
        )
    report = folder / "junit_test-cmd.xml"
    said = (folder / "log").read_text(errors="replace")
    assert report.exists(), f"test/cmd left no report:\n{said[-2000:]}"
    return of_junit(report.read_text(errors="replace"))
