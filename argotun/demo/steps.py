"""The steps of the guided run: each does one thing through the tunnel, checks it, and says what came back."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from argotun.demo.client import CLIENT_TOKEN, Client, Event, Reply
from argotun.demo.resources import Json
from argotun.demo.stage import CLUSTER, STAND_IN_USER, Stage
from argotun.errors import ArgotunError

EVENT_TIMEOUT = 15.0
"""Seconds for a watch event to come; a stand-in's pods are ready after a third of one."""

GONE_TIMEOUT = 20.0
"""Seconds for the demo's namespace to be gone; Kubernetes takes about five."""

Say = Callable[[str], None]


def manifest(version: str, kind: str, name: str, **more: object) -> Json:
    """An object that a step creates, marked as the demo's."""
    labels = {"app.kubernetes.io/managed-by": "argotun-demo"}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": labels}, **more}


def deployment(name: str, replicas: int) -> Json:
    """A deployment of one container."""
    app = {"app": name}
    container = {"name": "web", "image": "nginx:1.29"}
    template = {"metadata": {"labels": app}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": app}, "template": template}
    return manifest("apps/v1", "Deployment", name, spec=spec)


class NotShown(ArgotunError):
    """A step did not show what it claims."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step's title, what it does, and what that shows; `run` raises ArgotunError where it does not."""

    title: str
    run: Callable[["Scene", Say], None]
    shows: str


@dataclass(slots=True)
class Scene:
    """What the steps share: the stage, the client in front of it, the namespace that they work in."""

    stage: Stage
    client: Client = field(init=False)
    namespace: str = "shop"
    made: bool = False
    """Whether the namespace exists, as far as we know."""

    def __post_init__(self) -> None:
        self.client = Client(self.stage.tunnel_url)
        if self.stage.stand_in is None:
            self.namespace = f"argotun-demo-{secrets.token_hex(3)}"

    def clean_up(self) -> str:
        """Delete the namespace that was made, and wait until it is gone; a sentence about how it went."""
        if not self.made:
            return "nothing was made, nothing is left"
        path = f"/api/v1/namespaces/{self.namespace}"
        try:
            reply = self.client.call("DELETE", path)
            deadline = time.monotonic() + GONE_TIMEOUT
            while reply.code in (200, 202) and time.monotonic() < deadline:
                time.sleep(0.1)
                reply = self.client.call("GET", path)
        except ArgotunError as error:
            return f"{error}; {self._by_hand()}"
        if reply.code == 404:
            return f"namespace {self.namespace} and what was in it are gone"
        if reply.code == 200:
            return f"your API is still deleting namespace {self.namespace}"
        return f"namespace {self.namespace} is still there ({reply.code} {reply.message}); {self._by_hand()}"

    def _by_hand(self) -> str:
        return f"please delete it: kubectl delete namespace {self.namespace} --ignore-not-found"


def expect(true: object, sentence: str) -> None:
    """Raise NotShown with the sentence where it is not so."""
    if not true:
        raise NotShown(sentence)


def expect_code(reply: Reply, code: int) -> None:
    """Raise NotShown where an answer has another status code."""
    expect(reply.code == code, f"expected {code}, got {reply.code} {reply.message or reply.body}")


def version(scene: Scene, say: Say) -> None:
    """Who answers behind the tunnel."""
    reply = scene.client.call("GET", "/version")
    say(f"GET /tunnel/{CLUSTER}/version")
    expect_code(reply, 200)
    git_version = str(reply.body.get("gitVersion", ""))
    expect(git_version, "the answer names no gitVersion")
    if scene.stage.stand_in is not None:
        expect("stand-in" in git_version, f"this is not the stand-in API: {git_version}")
    say(f"→ {reply.code} gitVersion {git_version}")


def create(scene: Scene, say: Say) -> None:
    """A namespace and a configmap, read back."""
    scene.made = True
    for path, body in (
        ("/api/v1/namespaces", manifest("v1", "Namespace", scene.namespace)),
        (
            f"/api/v1/namespaces/{scene.namespace}/configmaps",
            manifest("v1", "ConfigMap", "greeting", data={"text": "hello"}),
        ),
    ):
        reply = scene.client.call("POST", path, body)
        say(f"POST {path}")
        if body["kind"] == "Namespace" and 400 <= reply.code < 500:
            scene.made = False
        expect_code(reply, 201)
        say(f"→ {reply.code} {body['kind']} {reply.body['metadata']['name']}, {_version(reply.body)}")
    path = f"/api/v1/namespaces/{scene.namespace}/configmaps/greeting"
    found = scene.client.call("GET", path)
    expect_code(found, 200)
    expect(found.body.get("data") == {"text": "hello"}, f"read back something else: {found.body.get('data')}")


def deploy(scene: Scene, say: Say) -> None:
    """A deployment, seen by a watch that was open before."""
    path = f"/apis/apps/v1/namespaces/{scene.namespace}/deployments"
    say(f"GET {path}?watch=true (stays open)")
    with scene.client.watch(f"{path}?watch=true") as watch:
        began = time.monotonic()
        reply = scene.client.call("POST", path, deployment("web", 2))
        say(f"POST {path}")
        expect_code(reply, 201)
        say(f"→ {reply.code} Deployment {reply.body['metadata']['name']}, {_version(reply.body)}")
        events = watch.until(lambda event: _ready(event.object) == 2, EVENT_TIMEOUT)
    expect(events[0].kind == "ADDED", f"the watch began with {events[0].kind}")
    expect(events[-1].kind == "MODIFIED", f"readiness came as {events[-1].kind}")
    for event in (events[0], events[-1]):
        say(f"watch: {_line(event, began)}, {_ready(event.object)} of 2 pods ready")


def change(scene: Scene, say: Say) -> None:
    """A change of a configmap, seen by a watch that was open before."""
    path = f"/api/v1/namespaces/{scene.namespace}/configmaps"
    chosen = "watch=true&fieldSelector=metadata.name%3Dgreeting"
    say(f"GET {path}?watch=true&… (stays open)")
    with scene.client.watch(f"{path}?{chosen}") as watch:
        first = watch.until(lambda event: event.kind == "ADDED", EVENT_TIMEOUT)[-1]
        began = time.monotonic()
        kind = "application/merge-patch+json"
        reply = scene.client.call("PATCH", f"{path}/greeting", {"data": {"text": "hello again"}}, kind)
        say(f"PATCH {path}/greeting (merge patch)")
        expect_code(reply, 200)
        last = watch.until(lambda event: event.kind == "MODIFIED", EVENT_TIMEOUT)[-1]
    expect(first.object["data"] == {"text": "hello"}, "the watch did not begin with what was there")
    expect(last.object["data"] == {"text": "hello again"}, "the watch showed another change")
    say(f"watch: {_line(last, began)}, text is now {last.object['data']['text']!r}")


def credentials(scene: Scene, say: Say) -> None:
    """The client's credential stays outside, the agent's own goes in."""
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    reply = scene.client.call(
        "POST", path, {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    )
    expect_code(reply, 201)
    user = str(reply.body.get("status", {}).get("userInfo", {}).get("username", ""))
    say(f"the client sent       Authorization: Bearer {CLIENT_TOKEN}")
    if scene.stage.stand_in is None:
        say("your API did not refuse it with 401: that token never came, the agent's credential did")
    else:
        expect(user == STAND_IN_USER, f"the API takes the request for one of {user!r}")
        arrived = _authorization(scene, reply.audit_id)
        say(f"arrived at the API    {arrived}")
        say("  (the agent's own token: the client never had it)")
    say(f"the API takes it for  {user}")


def _authorization(scene: Scene, audit_id: str) -> str:
    """The Authorization header of one request as it arrived, shortened; NotShown if it is not the agent's."""
    assert scene.stage.stand_in is not None
    seen = [request.headers for request in scene.stage.stand_in.seen]
    marked = [headers for headers in seen if headers.get("audit-id") == audit_id]
    expect(len(marked) == 1, "the API did not see the request, or not under its Audit-ID")
    own = f"Bearer {scene.stage.agent_token}"
    expect(marked[0].get("authorization") == own, "the API did not get the agent's token alone")
    for headers in seen:
        for name, value in headers.items():
            expect(CLIENT_TOKEN not in value, f"the client's token arrived in {name}")
    return f"Authorization: {own[:13]}… ({len(own) - 7} characters)"


def refuse(scene: Scene, say: Say) -> None:
    """An error of argotun's own, in words that kubectl and Argo CD show."""
    path = "/tunnel/nowhere/api/v1/namespaces"
    reply = Client(scene.stage.url).call("GET", path)
    say(f"GET {path}")
    expect_code(reply, 503)
    expect(reply.body.get("kind") == "Status", "the answer is no Kubernetes Status")
    expect(reply.message.startswith("argotun:"), f"the message does not name argotun: {reply.message!r}")
    say(f"→ {reply.code} {reply.body.get('reason')}: {reply.message}")


_BEGIN = (
    Step("Ask who answers behind the tunnel", version, "the API answered through the tunnel"),
    Step("Create a namespace and a configmap", create, "what was made reads back as it was sent"),
)
_END = (
    Step(
        "See whose credential arrives",
        credentials,
        "the client's token ends at the server, the agent's own goes in",
    ),
    Step("See what an unknown cluster is told", refuse, "a Status of argotun's own, in words"),
)
_DEPLOY = Step(
    "Deploy through the tunnel, and watch it happen", deploy, "the watch saw the deployment become ready"
)
_CHANGE = Step("Change the configmap, and watch it happen", change, "the watch saw the change")
STAND_IN_STEPS = (*_BEGIN, _DEPLOY, *_END)
OWN_CLUSTER_STEPS = (*_BEGIN, _CHANGE, *_END)


def _version(obj: Json) -> str:
    return f"resourceVersion {obj['metadata'].get('resourceVersion')}"


def _ready(obj: Json) -> int:
    return int(obj.get("status", {}).get("readyReplicas", 0))


def _line(event: Event, began: float) -> str:
    milliseconds = max(0.0, event.came - began) * 1000
    name = event.object["metadata"]["name"]
    return f"{event.kind} {event.object['kind']} {name} after {milliseconds:.0f} ms"
