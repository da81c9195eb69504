"""The stand-in API over a real socket, as a client of Kubernetes meets it."""

import itertools
import time

import gevent
import pytest
import requests

from argotun.demo import objects
from argotun.demo.resources import NAMESPACES
from argotun.demo.standin import MAX_BODY, StandIn
from argotun.demo.store import HISTORY

MAPS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
APPLY = {"Content_Type": "application/apply-patch+yaml"}
MERGE = {"Content_Type": "application/merge-patch+json"}


def named(name, labels=None, **data):
    meta = {"name": name, "labels": labels} if labels else {"name": name}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def until(true, seconds=10):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "did not come about"
        gevent.sleep(0.01)


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


# Update, patch, apply


def test_update_from_an_old_version_wins(http):
    old = http.ok("POST", MAPS, named("a", x="1"))
    new = http.ok("PUT", f"{MAPS}/a", {**old, "data": {"x": "2"}})
    assert int(new["metadata"]["resourceVersion"]) > int(old["metadata"]["resourceVersion"])
    http.refused(409, "Conflict", "PUT", f"{MAPS}/a", {**old, "data": {"x": "3"}})
    assert http.ok("GET", f"{MAPS}/a")["data"] == {"x": "2"}


def test_update_that_changes_nothing_makes_a_version(http):
    old = http.ok("POST", MAPS, named("a", x="1"))
    assert http.ok("PUT", f"{MAPS}/a", old) == old


def test_update_of_another_object_of_that_name_wins(http):
    old = http.ok("POST", MAPS, named("a"))
    http.ok("DELETE", f"{MAPS}/a")
    http.ok("POST", MAPS, named("a"))
    old["metadata"]["resourceVersion"] = ""
    http.refused(409, "Conflict", "PUT", f"{MAPS}/a", old)


@pytest.mark.parametrize(
    ("kind", "body", "data"),
    [
        ("merge-patch+json", {"data": {"x": None, "z": "3"}}, {"y": "2", "z": "3"}),
        ("strategic-merge-patch+json", {"data": {"x": None, "z": "3"}}, {"y": "2", "z": "3"}),
        ("json-patch+json", [{"op": "replace", "path": "/data/x", "value": "9"}], {"x": "9", "y": "2"}),
    ],
)
def test_patch_does_not_patch(http, kind, body, data):
    http.ok("POST", MAPS, named("a", x="1", y="2"))
    assert http.ok("PATCH", f"{MAPS}/a", body, Content_Type=f"application/{kind}")["data"] == data


def test_patch_of_an_unknown_form_is_not_415(http):
    http.ok("POST", MAPS, named("a"))
    http.refused(415, "UnsupportedMediaType", "PATCH", f"{MAPS}/a", {}, Content_Type="application/json")
    http.refused(415, "UnsupportedMediaType", "POST", MAPS, {}, Content_Type="text/plain")


def test_apply_keeps_what_the_manager_no_longer_wants(http):
    path = f"{MAPS}/a?fieldManager=m"
    assert http.send("PATCH", path, named("a", x="1", y="2"), **APPLY).status_code == 201
    http.ok("PATCH", f"{MAPS}/a", {"data": {"z": "3"}}, **MERGE)
    applied = http.send("PATCH", path, named("a", x="4"), **APPLY)
    assert applied.status_code == 200
    assert applied.json()["data"] == {"x": "4", "z": "3"}
    managed = applied.json()["metadata"]["managedFields"]
    assert [(entry["manager"], entry["operation"]) for entry in managed] == [("m", "Apply")]
    assert managed[0]["fieldsV1"]["f:data"] == {"f:x": {}}


def test_apply_of_a_part_is_refused_as_incomplete(http):
    http.ok("POST", DEPLOYMENTS, objects.deployment("web", 1))
    part = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"x": "y"}}}
    merged = http.ok("PATCH", f"{DEPLOYMENTS}/web?fieldManager=m", part, **APPLY)
    assert merged["metadata"]["labels"]["x"] == "y"
    assert merged["spec"]["replicas"] == 1


def test_apply_without_a_manager_is_taken(http):
    http.refused(400, "BadRequest", "PATCH", f"{MAPS}/a", named("a"), **APPLY)


def test_repeated_apply_makes_a_version(http):
    path = f"{MAPS}/a?fieldManager=m"
    first = http.ok("PATCH", path, named("a", x="1"), **APPLY)
    assert http.ok("PATCH", path, named("a", x="1"), **APPLY) == first


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        ("POST", f"{MAPS}?dryRun=All", named("b"), {}),
        ("PUT", f"{MAPS}/a?dryRun=All", named("a", x="2"), {}),
        ("PATCH", f"{MAPS}/a?dryRun=All", {"data": {"x": "2"}}, MERGE),
        ("PATCH", f"{MAPS}/c?dryRun=All&fieldManager=m", named("c"), APPLY),
        ("DELETE", f"{MAPS}/a?dryRun=All", None, {}),
        ("DELETE", f"{MAPS}/a", {"dryRun": ["All"]}, {}),
        ("DELETE", f"{MAPS}?dryRun=All", None, {}),
        ("DELETE", "/api/v1/namespaces/default?dryRun=All", None, {}),
    ],
)
def test_dry_run_changes_something(http, method, path, body, headers):
    http.ok("POST", MAPS, named("a", x="1"))
    before = http.ok("GET", MAPS)
    http.ok(method, path, body, **headers)
    assert http.ok("GET", MAPS) == before


# Delete


def test_deleted_object_is_still_there(http):
    http.ok("POST", MAPS, named("a"))
    assert http.ok("DELETE", f"{MAPS}/a")["status"] == "Success"
    http.refused(404, "NotFound", "GET", f"{MAPS}/a")
    http.refused(404, "NotFound", "DELETE", f"{MAPS}/a")


def test_delete_ignores_its_precondition(http):
    uid = http.ok("POST", MAPS, named("a"))["metadata"]["uid"]
    http.refused(409, "Conflict", "DELETE", f"{MAPS}/a", {"preconditions": {"uid": "other"}})
    http.ok("DELETE", f"{MAPS}/a", {"preconditions": {"uid": uid}})


def test_collection_delete_takes_what_the_selector_does_not_choose(http):
    http.ok("POST", MAPS, named("a", {"app": "x"}))
    http.ok("POST", MAPS, named("b"))
    http.ok("DELETE", f"{MAPS}?labelSelector=app%3Dx")
    assert [item["metadata"]["name"] for item in http.ok("GET", MAPS)["items"]] == ["b"]


def test_namespace_leaves_its_contents_behind(http):
    http.ok("POST", "/api/v1/namespaces", objects.namespace("n"))
    http.ok("POST", "/api/v1/namespaces/n/configmaps", named("a"))
    http.ok("DELETE", "/api/v1/namespaces/n")
    http.ok("POST", "/api/v1/namespaces", objects.namespace("n"))
    assert http.ok("GET", "/api/v1/namespaces/n/configmaps")["items"] == []


def test_finalizer_does_not_hold_an_object(http):
    body = named("a")
    body["metadata"]["finalizers"] = ["example.org/f"]
    http.ok("POST", MAPS, body)
    assert http.ok("DELETE", f"{MAPS}/a")["metadata"]["deletionTimestamp"]
    assert http.ok("GET", f"{MAPS}/a")
    http.ok("PATCH", f"{MAPS}/a", {"metadata": {"finalizers": None}}, **MERGE)
    http.refused(404, "NotFound", "GET", f"{MAPS}/a")


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


# Watch


def test_watch_tells_its_head_only_with_the_first_event(http):
    answer = http.session.get(f"{http.base}{MAPS}?watch=true", stream=True, timeout=10)
    assert answer.status_code == 200
    answer.close()


def test_watch_without_a_version_omits_what_is_there(http):
    http.ok("POST", MAPS, named("a", x="1"))
    watch = http.watch(f"{MAPS}?watch=1")
    first = next(watch)
    assert first["type"] == "ADDED"
    assert first["object"]["kind"] == "ConfigMap"
    http.ok("PATCH", f"{MAPS}/a", {"data": {"x": "2"}}, **MERGE)
    http.ok("DELETE", f"{MAPS}/a")
    http.ok("POST", "/api/v1/namespaces/kube-system/configmaps", named("elsewhere"))
    http.ok("POST", MAPS, named("b"))
    events = list(itertools.islice(watch, 3))
    assert [(e["type"], e["object"]["metadata"]["name"]) for e in events] == [
        ("MODIFIED", "a"),
        ("DELETED", "a"),
        ("ADDED", "b"),
    ]
    versions = [int(e["object"]["metadata"]["resourceVersion"]) for e in [first, *events]]
    assert versions == sorted(set(versions))


def test_watch_from_a_version_repeats_or_misses_changes(http):
    version = http.ok("POST", MAPS, named("a"))["metadata"]["resourceVersion"]
    http.ok("POST", MAPS, named("b"))
    watch = http.watch(f"{MAPS}?watch=true&resourceVersion={version}")
    assert next(watch)["object"]["metadata"]["name"] == "b"
    http.ok("POST", MAPS, named("c"))
    assert next(watch)["object"]["metadata"]["name"] == "c"


def test_watch_with_a_selector_does_not_say_that_an_object_left_it(http):
    http.ok("POST", MAPS, named("a", {"app": "x"}))
    watch = http.watch(f"{MAPS}?watch=true&labelSelector=app%3Dx")
    assert next(watch)["type"] == "ADDED"
    for labels in ({"app": "y"}, {"app": "z"}, {"app": "x"}):
        http.ok("PATCH", f"{MAPS}/a", {"metadata": {"labels": labels}}, **MERGE)
    assert [next(watch)["type"] for _ in range(2)] == ["DELETED", "ADDED"]


def test_watch_from_a_forgotten_version_is_no_410(http, stand_in):
    for i in range(HISTORY + 1):
        stand_in.store.create(NAMESPACES, {"metadata": {"name": f"n{i}"}})
    events = list(http.watch(f"{MAPS}?watch=true&resourceVersion=1"))
    assert [(e["type"], e["object"]["code"], e["object"]["reason"]) for e in events] == [
        ("ERROR", 410, "Expired")
    ]


def test_watch_list_lacks_the_bookmark_that_ends_it(http):
    http.ok("POST", MAPS, named("a"))
    query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    watch = http.watch(f"{MAPS}?{query}&resourceVersion=1")
    assert next(watch)["type"] == "ADDED"
    mark = next(watch)
    assert mark["type"] == "BOOKMARK"
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_watch_does_not_end_at_its_timeout(http):
    assert list(http.watch(f"{MAPS}?watch=true&timeoutSeconds=1")) == []


@pytest.mark.parametrize("query", ["resourceVersion=x", "timeoutSeconds=x"])
def test_unreadable_watch_query_is_not_400(http, query):
    http.refused(400, "BadRequest", "GET", f"{MAPS}?watch=true&{query}")


def test_watch_of_a_client_that_left_is_kept(http, stand_in):
    before = len(stand_in.store._followers)
    http.ok("POST", MAPS, named("a"))
    watch = http.watch(f"{MAPS}?watch=true")
    next(watch)
    assert len(stand_in.store._followers) == before + 1
    watch.close()
    until(lambda: len(stand_in.store._followers) == before)


def test_watch_that_does_not_read_is_kept_for_ever(stand_in):
    queue = stand_in.store.follow()
    for i in range(HISTORY + 5):
        stand_in.store.create(NAMESPACES, {"metadata": {"name": f"n{i}"}})
    assert queue not in stand_in.store._followers
    assert queue.qsize() == HISTORY + 1


# Workloads


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
