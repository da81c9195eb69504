"""Watches of the stand-in API over a real socket."""

import gc
import itertools
import types

import pytest
import requests

from argotun.demo import api
from tests.demo.calls import MAPS, MERGE, named
from tests.rig import until


def test_watch_sends_its_head_before_the_first_event(http):
    answer = http.session.get(f"{http.base}{MAPS}?watch=true", stream=True, timeout=10)
    assert answer.status_code == 200
    answer.close()


def test_watch_without_a_version_begins_with_what_is_there(http):
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
    versions = [int(e["object"]["metadata"]["resourceVersion"]) for e in (first, events[0], events[2])]
    assert versions == sorted(set(versions))


def test_watch_from_a_version_goes_on_from_there(http):
    version = http.ok("POST", MAPS, named("a"))["metadata"]["resourceVersion"]
    http.ok("POST", MAPS, named("b"))
    watch = http.watch(f"{MAPS}?watch=true&resourceVersion={version}")
    assert next(watch)["object"]["metadata"]["name"] == "b"
    http.ok("POST", MAPS, named("c"))
    assert next(watch)["object"]["metadata"]["name"] == "c"


def test_watch_with_a_selector_says_that_an_object_left_it(http):
    http.ok("POST", MAPS, named("a", {"app": "x"}))
    watch = http.watch(f"{MAPS}?watch=true&labelSelector=app%3Dx")
    assert next(watch)["type"] == "ADDED"
    for labels in ({"app": "y"}, {"app": "z"}, {"app": "x"}):
        http.ok("PATCH", f"{MAPS}/a", {"metadata": {"labels": labels}}, **MERGE)
    assert [next(watch)["type"] for _ in range(2)] == ["DELETED", "ADDED"]


def test_a_watch_that_would_list_is_422_so_that_clients_list_instead(http):
    http.refused(422, "Invalid", "GET", f"{MAPS}?watch=true&sendInitialEvents=true&resourceVersion=1")


def test_watch_ends_at_its_timeout(http):
    assert list(http.watch(f"{MAPS}?watch=true&timeoutSeconds=1")) == []


@pytest.mark.parametrize("query", ["resourceVersion=x", "timeoutSeconds=x"])
def test_an_unreadable_watch_query_is_400(http, query):
    http.refused(400, "BadRequest", "GET", f"{MAPS}?watch=true&{query}")


@pytest.fixture
def watches():
    """How many watches there are."""

    def count():
        found = [o for o in gc.get_objects() if isinstance(o, types.GeneratorType)]
        return sum(o.__qualname__ == "Api._watch" and o.gi_frame is not None for o in found)

    return count


def test_watch_of_a_client_that_left_is_released(http, watches, monkeypatch):
    monkeypatch.setattr(api, "BEAT", 0.02)
    http.ok("POST", MAPS, named("a"))
    watch = http.watch(f"{MAPS}?watch=true")
    next(watch)
    assert watches() == 1
    watch.close()
    until(lambda: watches() == 0)


def test_stop_ends_a_watch(stand_in, watches):
    base = "http://{}:{}".format(*stand_in.address)
    answer = requests.get(f"{base}{MAPS}?watch=true", stream=True, timeout=10)
    stand_in.stop()
    try:
        assert not any(answer.iter_lines(chunk_size=1))
    except requests.RequestException:
        pass  # cut rather than ended: over in either case
    until(lambda: watches() == 0)
