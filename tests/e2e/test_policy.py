"""What kube-apiserver makes of a request, as its audit log tells, is what a policy is asked about."""

import itertools

import pytest

from argotun.policy.requestinfo import request_info

from .harness.tunnel import Tunnel

NUMBERS = itertools.count(1)
IN = "/api/v1/namespaces/policed"

REQUESTS = (
    *("GET /version", "GET /api", "GET /api/v1", "GET /apis/apps/v1", "HEAD /openapi/v2", "GET /metrics"),
    *("POST /version", "OPTIONS /healthz", "GET /apis/apps", "DELETE /apis", "GET /API/v1/pods"),
    *("GET /api/v1/pods", "HEAD /api/v1/pods", "OPTIONS /api/v1/pods", "GET /api/v1/nodes/n1"),
    *(
        "GET /api/v1/pods?watch=1&timeoutSeconds=1",
        "GET /api/v1/pods?watch=false",
        "GET /api/v1/pods?watch=0",
    ),
    *("GET /api/v1/pods?w%61tch&timeoutSeconds=1", "GET /api/v1/watch/pods?timeoutSeconds=1"),
    *("GET /api/v1/secrets?fieldSelector=metadata.name%3Da", "GET /api/v1/secrets?fieldSelector=a%3Db"),
    *("GET /api/v1/secrets?fieldSelector=metadata.name=a&limit=x", f"GET {IN}", f"PUT {IN}/finalize"),
    *(f"GET {IN}/status", f"GET {IN}/pods/x", f"GET {IN}/pods/x/log", f"GET {IN}/pods/x/exec?command=a"),
    *(f"POST {IN}/pods/x/exec?command=a", f"POST {IN}/pods/x/attach", f"GET {IN}/pods/x/portforward"),
    *(f"GET {IN}/pods/x/proxy/a/b", f"GET {IN}/services/x:80/proxy/", "GET /api/v1/nodes/n/proxy/run/a/b"),
    *(
        "GET /api/v1/proxy/nodes/n/x",
        f"GET {IN}/pods/x/exec/more",
        f"GET /api/v1/watch{IN[7:]}/pods/x?timeoutSeconds=1",
    ),
    *(f"POST {IN}/serviceaccounts/x/token", f"PATCH {IN}/pods/x/ephemeralcontainers", f"DELETE {IN}/pods"),
    *(f"DELETE {IN}/pods/x", f"POST {IN}/pods", f"PATCH {IN}/configmaps/x", "GET /api/v2/secrets"),
    *("GET /apis/rbac.authorization.k8s.io/v1/clusterroles/system:none", "GET /apis/a.b/v1/things/%C3%A9"),
    *("GET /apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anone", "GET /apis/apps/v1/..pods"),
)


@pytest.mark.parametrize("line", REQUESTS)
def test_a_request_is_what_the_audit_log_calls_it(tunnel: Tunnel, line: str) -> None:
    method, target = line.split()
    number = f"policy-{next(NUMBERS)}"
    tunnel.endpoint(method, target, None, {"Audit-ID": number})
    event = tunnel.cluster.audited(line, lambda event: event["auditID"] == number)
    info = request_info(method.encode(), target.encode())
    assert event["verb"] == info.verb
    assert ("objectRef" in event) == info.resource_request
    if info.resource_request:
        ref = {key: event["objectRef"].get(key, "") for key in ("apiGroup", "namespace", "resource", "name")}
        assert tuple(ref.values()) == (info.group, info.namespace, info.resource, info.name)
        assert event["objectRef"].get("subresource", "") == info.subresource
