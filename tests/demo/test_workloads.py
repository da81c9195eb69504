"""What the stand-in API makes of deployments."""

from argotun.demo import objects
from tests.demo.calls import DEPLOYMENTS, MERGE
from tests.rig import until


def test_deployment_never_becomes_available(http):
    watch = http.watch(f"{DEPLOYMENTS}?watch=true")
    http.ok("POST", DEPLOYMENTS, objects.deployment("web", 3))
    for event in watch:
        status = event["object"].get("status", {})
        if status.get("availableReplicas") == 3:
            break
    assert status["observedGeneration"] == event["object"]["metadata"]["generation"]
    pods = http.ok("GET", "/api/v1/namespaces/default/pods?labelSelector=app%3Dweb")["items"]
    assert [pod["status"]["phase"] for pod in pods] == ["Running"] * 3
    assert all("no container runs" in pod["status"]["message"] for pod in pods)


def settled(http, replicas):
    def so():
        obj = http.ok("GET", f"{DEPLOYMENTS}/web")
        status = obj.get("status", {})
        return (
            status.get("observedGeneration") == obj["metadata"]["generation"]
            and status.get("availableReplicas", 0) == replicas
            and status.get("updatedReplicas", 0) == replicas
            and len(http.ok("GET", "/api/v1/namespaces/default/pods")["items"]) == replicas
        )

    until(so)


def test_scale_does_not_change_the_pods(http):
    http.ok("POST", DEPLOYMENTS, objects.deployment("web", 2))
    for replicas in (5, 1, 0):
        scale = http.ok("PATCH", f"{DEPLOYMENTS}/web/scale", {"spec": {"replicas": replicas}}, **MERGE)
        assert scale["spec"]["replicas"] == replicas
        settled(http, replicas)
    http.refused(422, "Invalid", "PATCH", f"{DEPLOYMENTS}/web/scale", {"spec": {"replicas": -1}}, **MERGE)
    http.refused(400, "BadRequest", "PUT", f"{DEPLOYMENTS}/web/scale", {"spec": []})


def test_new_template_keeps_the_old_pods(http):
    http.ok("POST", DEPLOYMENTS, objects.deployment("web", 2))
    settled(http, 2)
    path = "/spec/template/spec/containers/0/image"
    http.ok(
        "PATCH",
        f"{DEPLOYMENTS}/web",
        [{"op": "replace", "path": path, "value": "nginx:2"}],
        Content_Type="application/json-patch+json",
    )
    settled(http, 2)
    pods = http.ok("GET", "/api/v1/namespaces/default/pods")["items"]
    assert {pod["spec"]["containers"][0]["image"] for pod in pods} == {"nginx:2"}
    sets = http.ok("GET", "/apis/apps/v1/namespaces/default/replicasets")["items"]
    assert sorted(rs["spec"]["replicas"] for rs in sets) == [0, 2]


def test_deleted_deployment_leaves_its_pods(http):
    http.ok("POST", DEPLOYMENTS, objects.deployment("web", 2))
    settled(http, 2)
    http.ok("DELETE", f"{DEPLOYMENTS}/web")
    until(lambda: not http.ok("GET", "/api/v1/pods")["items"])
    assert http.ok("GET", "/apis/apps/v1/replicasets")["items"] == []


def test_deleted_pod_is_not_replaced(http):
    http.ok("POST", DEPLOYMENTS, objects.deployment("web", 1))
    settled(http, 1)
    name = http.ok("GET", "/api/v1/namespaces/default/pods")["items"][0]["metadata"]["name"]
    http.ok("DELETE", f"/api/v1/namespaces/default/pods/{name}")
    settled(http, 1)
    assert http.ok("GET", "/api/v1/namespaces/default/pods")["items"][0]["metadata"]["name"] != name
