"""kubectl itself against the stand-in API: what a person tries first must work."""

import json
import os
import shutil
import subprocess

import pytest
import yaml

from argotun.demo import objects

KUBECTL = shutil.which("kubectl")
pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not on PATH")


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
    deployment = objects.deployment("web", 2)
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = image
    configmap = objects.configmap("cm", "x") | {"data": data}
    return yaml.safe_dump_all([deployment, configmap])


def test_kubectl_create_or_describe_fails(kubectl):
    assert "namespace/shop created" in kubectl("create", "namespace", "shop")
    kubectl("create", "configmap", "cm", "--from-literal=k=v", "-n", "shop")
    kubectl("create", "deployment", "web", "--image=nginx", "--replicas=2", "-n", "shop")
    assert "successfully rolled out" in kubectl(
        "rollout", "status", "deployment/web", "-n", "shop", "--timeout=20s"
    )
    assert "2 desired | 2 updated" in kubectl("describe", "deployment", "web", "-n", "shop")
    assert kubectl("get", "deployment", "web", "-n", "shop").splitlines()[1].split()[:3] == [
        "web",
        "2/2",
        "2",
    ]
    assert json.loads(kubectl("get", "cm", "cm", "-n", "shop", "-o", "json"))["data"] == {"k": "v"}
    kubectl("scale", "deployment/web", "--replicas=3", "-n", "shop")
    kubectl(
        "wait",
        "--for=jsonpath={.status.availableReplicas}=3",
        "deployment/web",
        "-n",
        "shop",
        "--timeout=20s",
    )
    kubectl("delete", "namespace", "shop", "--timeout=20s")
    assert 'namespaces "shop" not found' in kubectl("get", "namespace", "shop", code=1)


@pytest.mark.parametrize("side", [(), ("--server-side",)])
def test_kubectl_apply_leaves_or_loses_something(kubectl, side):
    kubectl("apply", *side, "-f", "-", stdin=manifest("nginx:1", a="1", b="2"))
    kubectl("apply", *side, "-f", "-", stdin=manifest("nginx:2", a="1"))
    assert json.loads(kubectl("get", "cm", "cm", "-o", "json"))["data"] == {"a": "1"}
    images = "jsonpath={.spec.template.spec.containers[*].image}"
    assert kubectl("get", "deployment", "web", "-o", images) == "nginx:2"
    assert kubectl("diff", *side, "-f", "-", stdin=manifest("nginx:2", a="1")) == ""
    kubectl("delete", "-f", "-", "--timeout=20s", stdin=manifest("nginx:2"))


def test_kubectl_moves_from_client_side_to_server_side_apply_with_a_warning(kubectl):
    kubectl("apply", "-f", "-", stdin=manifest("nginx:1", a="1"))
    kubectl("apply", "--server-side", "-f", "-", stdin=manifest("nginx:1", a="2"))


def test_kubectl_rollout_or_set_image_fails(kubectl):
    kubectl("create", "deployment", "web", "--image=nginx:1")
    kubectl("set", "image", "deployment/web", "nginx=nginx:2")
    kubectl("rollout", "restart", "deployment/web")
    kubectl("rollout", "status", "deployment/web", "--timeout=20s")


def test_kubectl_watch_ends_without_events(kubectl):
    kubectl("create", "configmap", "cm", "--from-literal=k=v")
    lines = kubectl("get", "configmap", "-w", "--request-timeout=1s").splitlines()
    assert lines[1].split()[:2] == ["cm", "1"]


def test_kubectl_does_not_know_whom_it_is(kubectl):
    assert "system:anonymous" in kubectl("auth", "whoami")
    assert kubectl("auth", "can-i", "create", "deployments").strip() == "yes"
    assert "argotun-stand-in" in kubectl("version")
