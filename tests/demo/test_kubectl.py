"""kubectl itself against the stand-in API: what a person tries first must work."""

import json
import os
import shutil
import subprocess

import pytest
import yaml

from argotun.demo import steps

KUBECTL = shutil.which("kubectl")
pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl: not on PATH")


@pytest.fixture
def kubectl(stand_in, tmp_path):
    def run(*arguments, stdin=None, code=0):
        done = subprocess.run(
            [
                KUBECTL,
                "--server",
                "http://{}:{}".format(*stand_in.address),
                "--cache-dir",
                tmp_path,
                *arguments,
            ],
            check=False,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            env={**os.environ, "KUBECONFIG": os.devnull, "NO_PROXY": "127.0.0.1"},
        )
        assert done.returncode == code, done.stderr
        assert "Warning" not in done.stderr
        return done.stdout if code == 0 else done.stderr

    return run


def manifest(image, **data):
    deployment = steps.deployment("web", 2)
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = image
    configmap = steps.manifest("v1", "ConfigMap", "cm", data=data)
    return yaml.safe_dump_all([deployment, configmap])


def test_kubectl_applies_changes_and_deletes(kubectl):
    kubectl("apply", "-f", "-", stdin=manifest("nginx:1", a="1", b="2"))
    kubectl("apply", "-f", "-", stdin=manifest("nginx:2", a="1"))
    assert json.loads(kubectl("get", "cm", "cm", "-o", "json"))["data"] == {"a": "1"}
    images = "jsonpath={.spec.template.spec.containers[*].image}"
    assert kubectl("get", "deployment", "web", "-o", images) == "nginx:2"
    assert "unchanged" in kubectl("apply", "-f", "-", stdin=manifest("nginx:2", a="1"))
    kubectl("rollout", "status", "deployment/web", "--timeout=20s")
    assert "2 desired | 2 updated" in kubectl("describe", "deployment", "web")
    kubectl("delete", "-f", "-", "--timeout=20s", stdin=manifest("nginx:2"))
    assert 'deployments.apps "web" not found' in kubectl("get", "deployment", "web", code=1)


def test_kubectl_watches(kubectl):
    kubectl("apply", "-f", "-", stdin=manifest("nginx:1", a="1"))
    lines = kubectl("get", "configmap", "-w", "--request-timeout=1s").splitlines()
    assert lines[1].split()[0] == "cm"


def test_kubectl_says_that_there_are_no_containers(kubectl):
    kubectl("apply", "-f", "-", stdin=manifest("nginx:1"))
    pod = kubectl("get", "pods", "-o", "name").split()[0]
    kubectl("rollout", "status", "deployment/web", "--timeout=20s")
    for command in (["exec", pod, "--", "ls"], ["logs", pod], ["attach", pod], ["port-forward", pod, ":80"]):
        assert "it runs no containers" in kubectl(*command, code=1)
