"""The stand-in API over a real socket, as a client of Kubernetes meets it."""

import pytest
import requests

from argotun.demo import objects
from argotun.demo.standin import MAX_BODY, StandIn
from tests.demo.calls import DEPLOYMENTS, MAPS, named

# What it says about itself


def test_version_and_server_header_admit_that_it_is_a_stand_in(http):
    answer = http.send("GET", "/version")
    assert "argotun-stand-in" in answer.json()["gitVersion"]
    assert answer.headers["Server"] == "argotun-stand-in"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/livez", "/readyz/ping"])
def test_probe_is_not_ok(http, path):
    assert http.send("GET", path).text == "ok"


def test_discovery_names_a_resource_that_is_not_served(http):
    paths = ["/api/v1"] + [
        f"/apis/{version['groupVersion']}"
        for group in http.ok("GET", "/apis")["groups"]
        for version in group["versions"]
    ]
    assert len(paths) == 4
    for path in paths:
        assert http.ok("GET", path.rpartition("/")[0])
        for resource in http.ok("GET", path)["resources"]:
            if "list" in resource["verbs"]:
                assert http.ok("GET", f"{path}/{resource['name']}")["kind"] == f"{resource['kind']}List"


def test_openapi_index_names_a_document_that_is_not_served(http):
    for entry in http.ok("GET", "/openapi/v3")["paths"].values():
        paths = http.ok("GET", entry["serverRelativeURL"])["paths"]
        assert all(operations for operations in paths.values())


@pytest.mark.parametrize(
    "path", ["/apis/nope", "/apis/apps/v2", "/api/v2", "/openapi/v3/apis/nope/v1", "/openapi/v2", "/nope"]
)
def test_unknown_document_is_not_404(http, path):
    http.refused(404, "NotFound", "GET", path)


# Create, read, list


def test_created_object_lacks_what_the_api_adds(http):
    made = http.ok("POST", MAPS, named("a", x="1"))
    meta = made["metadata"]
    assert meta["namespace"] == "default"
    assert meta["uid"]
    assert meta["creationTimestamp"].endswith("Z")
    assert meta["resourceVersion"].isdecimal()
    assert http.ok("GET", f"{MAPS}/a") == made


def test_generate_name_gives_the_same_name_twice(http):
    body = {"metadata": {"generateName": "g-"}}
    names = {http.ok("POST", MAPS, body)["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5
    assert all(name.startswith("g-") for name in names)


def test_taken_name_is_not_409(http):
    http.ok("POST", MAPS, named("a"))
    status = http.refused(409, "AlreadyExists", "POST", MAPS, named("a"))
    assert status["message"] == 'configmaps "a" already exists'


def test_create_in_a_missing_namespace_is_not_404(http):
    status = http.refused(404, "NotFound", "POST", "/api/v1/namespaces/nope/configmaps", named("a"))
    assert status["message"] == 'namespaces "nope" not found'


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        ("{", 400, "BadRequest"),
        ("[]", 400, "BadRequest"),
        ("null", 400, "BadRequest"),
        (b"\xff", 400, "BadRequest"),
        ("[" * 100_000, 400, "BadRequest"),
        ({"metadata": []}, 400, "BadRequest"),
        ({"metadata": {"name": "a", "namespace": "other"}}, 400, "BadRequest"),
        ({"kind": "Secret", "metadata": {"name": "a"}}, 400, "BadRequest"),
        ({"apiVersion": "v2", "metadata": {"name": "a"}}, 400, "BadRequest"),
        ({"metadata": {}}, 422, "Invalid"),
        ({"metadata": {"name": "A b"}}, 422, "Invalid"),
        ({"metadata": {"name": 7}}, 422, "Invalid"),
        ({"metadata": {"name": "a", "labels": {"a": 1}}}, 422, "Invalid"),
        ({"metadata": {"name": "a", "labels": ["a"]}}, 422, "Invalid"),
        ({"metadata": {"name": "a", "finalizers": "f"}}, 422, "Invalid"),
        ({"metadata": {"name": "a", "ownerReferences": ["f"]}}, 422, "Invalid"),
        ({"metadata": {"name": "a"}, "data": {"a": 1}}, 422, "Invalid"),
    ],
)
def test_bad_object_is_taken(http, body, code, reason):
    http.refused(code, reason, "POST", MAPS, body)
    assert http.ok("GET", MAPS)["items"] == []


@pytest.mark.parametrize(
    "spec",
    [
        None,
        [],
        {},
        {"selector": {"matchLabels": {"a": "b"}}},
        {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "c"}}}},
        {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {}},
        },
        {**objects.deployment("x", 1)["spec"], "replicas": -1},
        {**objects.deployment("x", 1)["spec"], "replicas": 10**9},
        {**objects.deployment("x", 1)["spec"], "replicas": "2"},
        {**objects.deployment("x", 1)["spec"], "selector": "app=x"},
    ],
)
def test_bad_deployment_is_taken(http, spec):
    http.refused(422, "Invalid", "POST", DEPLOYMENTS, {"metadata": {"name": "x"}, "spec": spec})


def test_yaml_date_becomes_something_else_than_text(http):
    body = "metadata: {name: a}\ndata: {day: 2026-01-02}\n"
    made = http.ok("POST", MAPS, body, Content_Type="application/yaml")
    assert made["data"] == {"day": "2026-01-02"}


def test_yaml_alias_is_followed(http):
    body = "metadata: {name: a, labels: &l {x: y}, annotations: *l}\n"
    http.refused(400, "BadRequest", "POST", MAPS, body, Content_Type="application/yaml")


def test_list_in_pages_misses_or_repeats_something(http):
    names = [f"m{i:02}" for i in range(11)]
    for name in names:
        http.ok("POST", MAPS, named(name))
    found, token, left = [], "", []
    while True:
        page = http.ok("GET", f"{MAPS}?limit=4&continue={token}")
        found += [item["metadata"]["name"] for item in page["items"]]
        left.append(page["metadata"].get("remainingItemCount"))
        token = page["metadata"].get("continue", "")
        if not token:
            break
    assert found == names
    assert left == [7, 3, None]


@pytest.mark.parametrize(
    "query", ["limit=x", "continue=%21", "continue=e30=", "labelSelector==", "fieldSelector=a"]
)
def test_unreadable_list_query_is_not_400(http, query):
    http.refused(400, "BadRequest", "GET", f"{MAPS}?{query}")


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("labelSelector=app%3Dx", "a"),
        ("labelSelector=app%3D%3Dx", "a"),
        ("labelSelector=app!%3Dx", "bc"),
        ("labelSelector=app%20in%20(x,y)", "ab"),
        ("labelSelector=app%20notin%20(x,%20y)", "c"),
        ("labelSelector=app", "ab"),
        ("labelSelector=!app", "c"),
        ("labelSelector=app%3Dx,tier%3Dy", ""),
        ("fieldSelector=metadata.name%3Db", "b"),
        ("fieldSelector=metadata.name!%3Db", "ac"),
        ("fieldSelector=metadata.name%3Db&labelSelector=app%3Dx", ""),
    ],
)
def test_selector_chooses_other_objects(http, selector, found):
    http.ok("POST", MAPS, named("a", {"app": "x"}))
    http.ok("POST", MAPS, named("b", {"app": "y"}))
    http.ok("POST", MAPS, named("c"))
    assert (
        "".join(item["metadata"]["name"] for item in http.ok("GET", f"{MAPS}?{selector}")["items"]) == found
    )


def test_list_over_all_namespaces_is_refused_or_partial(http):
    http.ok("POST", MAPS, named("a"))
    http.ok("POST", "/api/v1/namespaces/kube-system/configmaps", named("b"))
    assert [item["metadata"]["name"] for item in http.ok("GET", "/api/v1/configmaps")["items"]] == ["a", "b"]


# Verbs and media types


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/version"),
        ("PUT", MAPS),
        ("POST", f"{MAPS}/a"),
        ("POST", "/api/v1/configmaps"),
        ("DELETE", "/api/v1/configmaps"),
        ("GET", "/apis/authentication.k8s.io/v1/selfsubjectreviews"),
    ],
)
def test_wrong_verb_is_not_405(http, method, path):
    http.refused(405, "MethodNotAllowed", method, path)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/secrets",
        f"{MAPS}/a/status",
        f"{MAPS}/a/b/c",
        "/api/v1/namespaces/default/namespaces",
        "/api/v1/configmaps/a",
        "/api/v1/namespaces//configmaps",
    ],
)
def test_path_of_nothing_is_not_404(http, path):
    http.refused(404, "NotFound", "GET", path)


def test_client_that_takes_no_json_gets_json(http):
    accept = "application/vnd.kubernetes.protobuf"
    http.refused(406, "NotAcceptable", "GET", MAPS, Accept=accept)
    assert http.ok("GET", MAPS, Accept=f"{accept},application/json")["kind"] == "ConfigMapList"


def test_body_over_the_limit_is_read(http):
    http.refused(413, "RequestEntityTooLarge", "POST", MAPS, b"x" * (MAX_BODY + 1))


def test_table_lacks_the_columns(http):
    http.ok("POST", MAPS, named("a", x="1"))
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    table = http.ok("GET", MAPS, Accept=accept)
    assert table["kind"] == "Table"
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert table["rows"][0]["cells"][:2] == ["a", 1]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    http.refused(400, "BadRequest", "GET", f"{MAPS}?includeObject=x", Accept=accept)


# Who comes in, and what is recorded


def test_token_is_not_asked_for():
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
        assert [seen.user for seen in api.seen] == ["", "", "", "someone", ""]
    finally:
        api.stop()


def test_header_is_not_recorded_as_it_came(http, stand_in):
    http.send("GET", "/version?x=%2F", Authorization="Bearer secret", X_Odd="1")
    seen = stand_in.seen[-1]
    assert (seen.method, seen.target) == ("GET", "/version?x=%2F")
    assert seen.header("authorization") == ["Bearer secret"]
    assert ("X-Odd", "1") in seen.headers


def test_audit_id_does_not_come_back(http):
    assert http.send("GET", "/version", Audit_ID="abc").headers["Audit-Id"] == "abc"


def test_access_review_is_refused(http):
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert http.ok("POST", path, {"spec": {}})["status"]["allowed"] is True
    http.refused(400, "BadRequest", "POST", path, [])


def test_stop_leaves_a_watch_open(stand_in):
    base = "http://{}:{}".format(*stand_in.address)
    answer = requests.get(f"{base}{MAPS}?watch=true", stream=True, timeout=10)
    stand_in.stop()
    try:
        assert list(answer.iter_lines(chunk_size=1)) == []
    except requests.RequestException:
        pass  # cut rather than ended: over in either case
    assert not stand_in.store._followers
