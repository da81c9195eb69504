"""Updates, patches, applies and deletes of the stand-in API over a real socket."""

import pytest

from argotun.demo import objects
from tests.demo.calls import APPLY, DEPLOYMENTS, MAPS, MERGE, named


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
