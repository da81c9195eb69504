"""The stand-in API over a real socket, as a client of Kubernetes meets it."""

import socket

import pytest
import requests

from argotun.demo.standin import MAX_BODY, StandIn
from argotun.demo.steps import deployment, manifest
from tests.demo.calls import DEPLOYMENTS, MAPS, MERGE, PODS, named
from tests.rig import until

# What it says about itself


def test_version_and_server_header_say_that_it_is_a_stand_in(http):
    answer = http.send("GET", "/version")
    assert "argotun-stand-in" in answer.json()["gitVersion"]
    assert answer.headers["Server"] == "argotun-stand-in"


def test_discovery_names_resources_that_are_served(http):
    paths = ["/api/v1"] + [
        f"/apis/{version['groupVersion']}"
        for group in http.ok("GET", "/apis")["groups"]
        for version in group["versions"]
    ]
    assert len(paths) == 3
    for path in paths:
        for resource in http.ok("GET", path)["resources"]:
            if "list" in resource["verbs"]:
                assert http.ok("GET", f"{path}/{resource['name']}")["kind"] == f"{resource['kind']}List"


def test_openapi_index_names_documents_that_are_served(http):
    for entry in http.ok("GET", "/openapi/v3")["paths"].values():
        assert all(http.ok("GET", entry["serverRelativeURL"])["paths"].values())


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/",
            "//",
            "/apis/nope",
            "/apis/apps/v2",
            "/api/v2",
            "/openapi/v3/apis/nope/v1",
            "/openapi/v2",
            "/nope",
        ),
        *("/api/v1/secrets", f"{MAPS}/a/status", f"{MAPS}/a/b/c", "/api/v1/namespaces/default/namespaces"),
        *("/api/v1/configmaps/a", "/api/v1/namespaces//configmaps"),
    ],
)
def test_a_path_of_nothing_is_404(http, path):
    http.refused(404, "NotFound", "GET", path)


# Objects


def test_created_object_has_what_the_api_adds(http):
    made = http.ok("POST", MAPS, named("a", x="1"))
    meta = made["metadata"]
    assert (meta["namespace"], meta["generation"]) == ("default", 1)
    assert meta["uid"]
    assert meta["creationTimestamp"].endswith("Z")
    assert meta["resourceVersion"].isdecimal()
    assert http.ok("GET", f"{MAPS}/a") == made


def test_a_taken_name_is_409(http):
    http.ok("POST", MAPS, named("a"))
    assert http.refused(409, "AlreadyExists", "POST", MAPS, named("a"))["message"].startswith(
        'configmaps "a"'
    )


def test_create_in_a_missing_namespace_is_404(http):
    status = http.refused(404, "NotFound", "POST", "/api/v1/namespaces/nope/configmaps", named("a"))
    assert status["message"] == 'namespaces "nope" not found'


@pytest.mark.parametrize("body", ["{", b"\xff", b"", "[" * 100_000, "[" * 500 + "]" * 500, "1" * 5000])
def test_a_body_that_is_not_json_is_400_or_422_and_stored_nowhere(http, body):
    assert http.send("POST", MAPS, body).status_code in (400, 422)
    assert http.ok("GET", MAPS)["items"] == []


@pytest.mark.parametrize(
    "body",
    [
        *([], None, 1, {}, {"metadata": []}, {"metadata": {}}),
        {"metadata": {"name": "a", "namespace": "other"}},
        {"kind": "Secret", "metadata": {"name": "a"}},
        {"apiVersion": "v2", "metadata": {"name": "a"}},
        {"metadata": {"name": "A b"}},
        {"metadata": {"name": 7}},
        {"metadata": {"name": "a", "labels": ["a"]}},
    ],
)
def test_a_bad_object_is_refused(http, body):
    http.refused(422, "Invalid", "POST", MAPS, "null" if body is None else body)
    assert http.ok("GET", MAPS)["items"] == []


@pytest.mark.parametrize(
    "change",
    [
        *({"replicas": -1}, {"replicas": 10**9}, {"replicas": "2"}, {"template": None}, {"template": []}),
        {"template": {"metadata": {"labels": {}}, "spec": {"containers": ["x"]}}},
    ],
)
def test_a_bad_deployment_is_refused(http, change):
    spec = {**deployment("x", 1)["spec"], **change}
    http.refused(422, "Invalid", "POST", DEPLOYMENTS, {"metadata": {"name": "x"}, "spec": spec})


def test_update_from_an_old_version_is_409(http):
    old = http.ok("POST", MAPS, named("a", x="1"))
    new = http.ok("PATCH", f"{MAPS}/a", {**old, "data": {"x": "2"}}, **MERGE)
    http.refused(409, "Conflict", "PATCH", f"{MAPS}/a", {**old, "data": {"x": "3"}}, **MERGE)
    assert http.ok("PATCH", f"{MAPS}/a", new, **MERGE) == new


@pytest.mark.parametrize("kind", ["merge-patch+json", "strategic-merge-patch+json"])
def test_patch_patches(http, kind):
    http.ok("POST", MAPS, named("a", x="1", y="2"))
    patch = {"data": {"x": None, "z": "3"}}
    patched = http.ok("PATCH", f"{MAPS}/a", patch, Content_Type=f"application/{kind}")
    assert patched["data"] == {"y": "2", "z": "3"}


def test_deleted_object_is_gone(http):
    http.ok("POST", MAPS, named("a"))
    assert http.ok("DELETE", f"{MAPS}/a")["status"] == "Success"
    http.refused(404, "NotFound", "DELETE", f"{MAPS}/a")


def test_deleted_namespace_takes_its_contents_along(http):
    for _ in range(2):
        http.ok("POST", "/api/v1/namespaces", manifest("v1", "Namespace", "n"))
        assert http.ok("GET", "/api/v1/namespaces/n/configmaps")["items"] == []
        http.ok("POST", "/api/v1/namespaces/n/configmaps", named("a"))
        http.ok("DELETE", "/api/v1/namespaces/n")


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("labelSelector=app%3Dx", "a"),
        ("labelSelector=app%3D%3Dy", "b"),
        ("fieldSelector=metadata.name%3Db", "b"),
        ("fieldSelector=metadata.name%3Db&labelSelector=app%3Dx", ""),
    ],
)
def test_selectors_choose_by_equality(http, selector, found):
    http.ok("POST", MAPS, named("a", {"app": "x"}))
    http.ok("POST", MAPS, named("b", {"app": "y"}))
    assert "".join(obj["metadata"]["name"] for obj in http.ok("GET", f"{MAPS}?{selector}")["items"]) == found


@pytest.mark.parametrize(
    "query", ["labelSelector=a", "labelSelector=a!%3Db", "fieldSelector=a", "dryRun=All"]
)
def test_a_query_that_is_not_understood_is_400(http, query):
    http.refused(400, "BadRequest", "GET", f"{MAPS}?{query}")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", f"{MAPS}/a"),
        ("POST", f"{MAPS}/a"),
        ("POST", "/api/v1/configmaps"),
        ("DELETE", MAPS),
        ("POST", PODS),
    ],
)
def test_a_wrong_verb_is_405(http, method, path):
    http.refused(405, "MethodNotAllowed", method, path)


def test_a_body_of_another_form_is_415(http):
    http.ok("POST", MAPS, named("a"))
    http.refused(415, "UnsupportedMediaType", "PATCH", f"{MAPS}/a", {}, Content_Type="application/json")


def test_a_body_over_the_limit_is_413(http):
    http.refused(413, "RequestEntityTooLarge", "POST", MAPS, b"x" * (MAX_BODY + 1))


# Deployments


def pods(http):
    return [
        (pod["status"]["phase"], pod["spec"]["containers"][0]["image"])
        for pod in http.ok("GET", PODS)["items"]
    ]


def test_deployment_has_as_many_pods_of_its_template_as_it_wants(http):
    http.ok("POST", DEPLOYMENTS, deployment("web", 3))
    until(lambda: pods(http) == [("Running", "nginx:1.29")] * 3)
    spec = deployment("web", 2)["spec"]
    spec["template"]["spec"]["containers"][0]["image"] = "nginx:2"
    patched = http.ok("PATCH", f"{DEPLOYMENTS}/web", {"spec": spec}, **MERGE)
    assert patched["metadata"]["generation"] == 2
    until(lambda: pods(http) == [("Running", "nginx:2")] * 2)
    name = http.ok("GET", PODS)["items"][0]["metadata"]["name"]
    http.ok("DELETE", f"{PODS}/{name}")
    until(lambda: http.ok("GET", f"{DEPLOYMENTS}/web")["status"]["availableReplicas"] == 2)
    http.ok("DELETE", f"{DEPLOYMENTS}/web")
    until(lambda: pods(http) == [])


@pytest.mark.parametrize("sub", ["exec", "attach", "portforward", "log"])
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("protocol", ["websocket", "SPDY/3.1", ""])
def test_what_needs_a_container_is_refused_at_once(stand_in, sub, method, protocol):
    upgrade = f"Connection: Upgrade\r\nUpgrade: {protocol}\r\n" if protocol else ""
    with socket.create_connection(stand_in.address, timeout=10) as client:
        client.sendall(f"{method} {PODS}/x/{sub}?a=b HTTP/1.1\r\nHost: h\r\n{upgrade}\r\n".encode())
        answer = b""
        while b"}\n" not in answer:
            data = client.recv(4096)
            assert data, answer
            answer += data
    assert answer.startswith(b"HTTP/1.1 501 ")
    assert b"argotun's demo API: it runs no containers" in answer


# Who comes in, and what is recorded


def test_a_token_is_asked_for():
    api = StandIn(tokens={"right": "someone"})
    api.start()
    try:
        base = "http://{}:{}".format(*api.address)
        reviews = f"{base}/apis/authentication.k8s.io/v1/selfsubjectreviews"
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic right"}):
            answer = requests.post(reviews, json={}, headers=headers, timeout=10)
            assert (answer.status_code, answer.json()["reason"]) == (401, "Unauthorized")
        answer = requests.post(reviews, json={}, headers={"Authorization": "Bearer right"}, timeout=10)
        assert answer.json()["status"]["userInfo"]["username"] == "someone"
        assert requests.get(f"{base}/version", timeout=10).status_code == 200
    finally:
        api.stop()


def test_headers_are_recorded_as_they_came(http, stand_in):
    http.send("GET", "/version", Authorization="Bearer secret", X_Odd="1")
    seen = stand_in.seen[-1]
    assert (seen.method, seen.path) == ("GET", "/version")
    assert (seen.headers["authorization"], seen.headers["x-odd"]) == ("Bearer secret", "1")


def test_audit_id_comes_back(http):
    assert http.send("GET", "/version", Audit_ID="abc").headers["Audit-Id"] == "abc"
