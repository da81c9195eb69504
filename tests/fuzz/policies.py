"""A policy and a request: both are read or refused, and no other spelling gets by a rule."""

from posixpath import normpath
from urllib.parse import quote, unquote

from argotun.errors import PolicyError
from argotun.policy.grammar import parse_policy
from argotun.policy.requestinfo import NotCanonical, request_info
from tests.fuzz.steps import Steps

METHODS = (b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS")
NO_SHELL = parse_policy("presets: [no-shell]")
PRESETS = 8_000
"""What reading all presets may cost, as so many bytes: they are YAML too."""
SHELLS = ("exec", "attach", "portforward", "proxy")


def check(data: bytes) -> None:
    """The first byte chooses the method; a target, and behind a line feed the policy's text."""
    method = METHODS[data[0] % len(METHODS)] if data else b"GET"
    target, _, text = data[1:].partition(b"\n")
    target = b"/" + bytes(byte for byte in target if 0x21 <= byte < 0x7F and byte not in b"#")
    asked(method, target)
    try:
        with Steps(PRESETS + 100 * len(text)):
            policy = parse_policy(text.decode("utf-8", "replace"))
    except PolicyError as error:
        assert "\n" not in str(error)
        return
    decision = policy.judge(method, target)
    assert policy.judge(method, target) == decision
    assert str(decision.what).isprintable()
    assert decision.allowed in (True, False)


def asked(method: bytes, target: bytes) -> None:
    """A target has one reading, and so no shell hides behind a spelling."""
    with Steps(len(target)):
        decision = NO_SHELL.judge(method, target)
    path = unquote(target.partition(b"?")[0].decode())
    words = normpath(path).lower().strip("/").split("/")
    try:
        info = request_info(method, target)
    except NotCanonical as error:
        assert str(error).isprintable()
        assert not decision.allowed
        return
    # What Go's path cleaning leaves of it is what it was.
    assert normpath(info.path) == info.path.rstrip("/") or info.path == "/", info.path
    assert unquote(quote(info.path)) == info.path
    if info.resource_request and info.subresource in SHELLS:
        assert not decision.allowed
    if len(words) >= 7 and words[:2] == ["api", "v1"] and words[2:5:2] == ["namespaces", "pods"]:
        assert words[6] not in SHELLS or not decision.allowed or info.subresource != words[6]


def seeds() -> list[bytes]:
    """Requests of people and of those who look for a way around, each with a policy."""
    targets = [
        b"/api/v1/namespaces/a/pods/b/exec?command=ls",
        b"/api/v1/namespaces/a/pods/b%2Fexec",
        b"/api/v1/namespaces/a/pods//b/exec",
        b"/api/v1/namespaces/a/pods/../pods/b/attach",
        b"/api/v1/proxy/nodes/a/",
        b"/apis/apps/v1/deployments?fieldSelector=metadata.name%3Da&watch=1",
        b"/version",
        b"/%61pi/v1/pods",
        b"/api/v1/namespaces/a/services/https:b:443/proxy/x//y",
        b"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    ]
    policies = [
        b"presets: [no-shell]\n",
        b"presets: read-only\n",
        b"rules:\n- {name: a, allow: {verbs: [get], resources: [pods/*]}}\ndefault: deny\n",
        b"rules:\n- {name: a, deny: &x {nonResourceURLs: [/a]}}\n- {name: b, allow: *x}\ndefault: deny\n",
        b"rules: [[[[[[[]]]]]]]\n",
        b"default: deny\nrules: []\n",
        b"{}",
    ]
    return [
        bytes([at % 7]) + target[1:] + b"\n" + policies[at % len(policies)]
        for at, target in enumerate(targets)
    ]
