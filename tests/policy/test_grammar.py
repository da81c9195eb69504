"""A policy's file: what is wrong is said with the entry and what is expected; presets and their page."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argotun.errors import PolicyError
from argotun.policy.check import check
from argotun.policy.grammar import parse_policy, preset_rules
from argotun.policy.presets import PRESETS

WRONG = {
    "": "not set",
    "[]": "a mapping of presets, rules, default",
    "presets: [no-shel]": r"presets\[0\]: 'no-shel' is not valid: expected one of full, no-shell",
    "presets: {a: b}": "presets: a mapping is not valid: expected a preset's name or a list",
    "presets: []": "a policy without rules is not valid: expected presets or rules",
    "preset: full": "preset: this key is not valid: expected presets, probably",
    "presets: full\nx: 1": "x: this key is not valid: expected one of presets, rules, default",
    "presets: full\npresets: full": "line 2: 'presets' is not valid: expected each key once",
    "presets: full\ndefault: yes": "default: 'yes' is not valid: expected allow or deny",
    "rules: [{name: a, allow: {}}]": "default is not set: expected allow or deny",
    "rules: {a: b}\ndefault: deny": "rules: a mapping is not valid: expected a list of rules",
    "rules: [x]\ndefault: deny": r"rules\[0\]: 'x' is not valid: expected a rule such as",
    "rules: [{allow: {}}]\ndefault: deny": r"rules\[0\], name is not set",
    "rules: [{name: A, allow: {}}]\ndefault: deny": r"rules\[0\] \(name 'A'\), name: 'A'",
    "rules: [{name: default, allow: {}}]\ndefault: deny": "a name that nothing else has",
    "rules: [{name: a, allow: {}}, {name: a, deny: {}}]\ndefault: deny": "a name that nothing else has",
    "rules: [{name: a}]\ndefault: deny": r"\(name 'a'\), allow or deny is not set: expected one of",
    "rules: [{name: a, allow: {}, deny: {}}]\ndefault: deny": "allow and deny is not valid",
    "rules: [{name: a, alow: {}}]\ndefault: deny": "alow: this key is not valid: expected allow, probably",
    "rules: [{name: a, allow: [x]}]\ndefault: deny": "allow: a list is not valid: expected a mapping",
    "rules: [{name: a, allow: {verb: [get]}}]\ndefault: deny": "allow, verb: this key .* expected verbs, pro",
    "rules: [{name: a, allow: {verbs: get}}]\ndefault: deny": "verbs: 'get' is not valid: expected a list",
    "rules: [{name: a, allow: {verbs: []}}]\ndefault: deny": "verbs is not set: expected a list",
    "rules: [{name: a, allow: {verbs: [GET]}}]\ndefault: deny": r"verbs\[0\]: 'GET' is not valid: expected a",
    "rules: [{name: a, deny: {verbs: {except: []}}}]\ndefault: deny": "verbs, except is not set",
    "rules: [{name: a, deny: {verbs: {except: ['*']}}}]\ndefault: deny": r"except\[0\]: '\*' is not valid",
    "rules: [{name: a, deny: {verbs: {excpt: [get]}}}]\ndefault: deny": "excpt: this key",
    "rules: [{name: a, deny: {apiGroups: [apps/v1]}}]\ndefault: deny": "an API group without a version",
    "rules: [{name: a, deny: {resources: [Pod]}}]\ndefault: deny": "a resource in lower case",
    "rules: [{name: a, deny: {resources: ['*/*']}}]\ndefault: deny": "a resource in lower case",
    "rules: [{name: a, deny: {resources: ['pod*']}}]\ndefault: deny": "a resource in lower case",
    "rules: [{name: a, deny: {namespaces: ['']}}]\ndefault: deny": "a namespace, or its beginning",
    "rules: [{name: a, deny: {namespaces: ['a*b']}}]\ndefault: deny": "a namespace, or its beginning",
    "rules: [{name: a, deny: {nonResourceURLs: [version]}}]\ndefault: deny": "a path such as /version",
    "rules: [{name: a, deny: {nonResourceURLs: [/a], resources: [b]}}]\ndefault: deny": "beside resources",
    "rules: [{name: a, deny: {upgrade: maybe}}]\ndefault: deny": "upgrade: 'maybe' is not valid: expected",
    "rules: [{name: a, deny: {callers: [[x]]}}]\ndefault: deny": r"callers\[0\]: a list is not valid",
    "presets: full\n[a]: b": "a list or mapping as key",
    "presets: [": "line 1, column 11|line 2|YAML",
    "presets: full\n\tx": "YAML",
    "presets: &a [*a]": "nesting out of all proportion",
    "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
    "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d]": "at most",
    "default: deny\nrules:\n" + "".join(f"- {{name: r{at}, deny: {{}}}}\n" for at in range(300)): "300 rules",
    "[" * 600: "proportion|YAML",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: repr(text[:60]))
def test_what_is_wrong_names_the_entry_and_what_is_expected(text: str) -> None:
    with pytest.raises(PolicyError, match=WRONG[text]) as caught:
        parse_policy(text, "policy.yaml")
    assert str(caught.value).startswith("--policy policy.yaml")


@given(st.text(alphabet="presetruldofanmwy: []{}&*!\n-'\"|#", max_size=60))
def test_any_text_is_a_policy_or_a_policy_error(text: str) -> None:
    try:
        parse_policy(text)
    except PolicyError:
        pass


def test_own_rules_come_before_those_of_presets() -> None:
    policy = parse_policy("""
presets: [no-shell, no-secrets]
default: allow
rules:
- {name: ours, allow: {resources: [pods/exec], namespaces: [dev], upgrade: true}}
""")
    assert policy.rules[0].name == "ours"
    assert check(policy, "GET /api/v1/namespaces/dev/pods/a/exec upgrade") == (
        True,
        "allowed by rule ours: get pods/exec a in namespace dev",
    )
    assert check(policy, "GET /api/v1/namespaces/prod/pods/a/exec upgrade")[0] is False


# Whether a preset allows: full, no-shell, read-only, no-secrets.
PRESET_GRID = """
GET /version                                                        y y y y
GET /api/v1/pods                                                    y y y y
GET /apis/apps/v1/deployments?watch=1                               y y y y
HEAD /openapi/v2                                                    y y y y
GET /api/v1/namespaces/a/pods/b/log                                 y y y y
PATCH /apis/apps/v1/namespaces/a/deployments/b                      y y – y
POST /api/v1/namespaces/a/pods                                      y y – y
DELETE /api/v1/namespaces/a/pods                                    y y – y
OPTIONS /api/v1/pods                                                y y – y
POST /version                                                       y y – y
POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews         y y y y
POST /apis/authorization.k8s.io/v1/subjectaccessreviews             y y – y
GET /api/v1/namespaces/a/pods/b/exec                                y – – y
POST /api/v1/namespaces/a/pods/b/exec                               y – – y
GET /api/v1/namespaces/a/pods/b/attach                              y – – y
POST /api/v1/namespaces/a/pods/b/portforward                        y – – y
PATCH /api/v1/namespaces/a/pods/b/ephemeralcontainers               y – – y
GET /api/v1/namespaces/a/pods/b/proxy                               y – – y
GET /api/v1/namespaces/a/services/b:80/proxy/x/y                    y – – y
GET /api/v1/nodes/n1/proxy/run/a/b/c                                y – – y
GET /api/v1/proxy/nodes/n1/metrics                                  y – – y
GET /api/v1/proxy/namespaces/a/services/b                           y – – y
GET /apis/subresources.kubevirt.io/v1/namespaces/a/vms/b/portforward y – – y
GET /apis/subresources.kubevirt.io/v1/namespaces/a/vms/b/vnc upgrade y – – y
GET /api/v1/pods?watch=1 upgrade                                    y – – y
POST /api/v1/namespaces/a/serviceaccounts/b/token                   y – – y
GET /api/v1/namespaces/a/serviceaccounts/b                          y y y y
POST /apis/certificates.k8s.io/v1/certificatesigningrequests        y – – y
PUT /apis/certificates.k8s.io/v1/certificatesigningrequests/a/approval  y – – y
GET /apis/certificates.k8s.io/v1/certificatesigningrequests         y y y y
GET /api/v1/secrets                                                 y y y –
GET /api/v2/secrets                                                 y y y –
GET /api/v1/watch/secrets                                           y y y –
GET /api/v1/secrets?watch=1                                         y y y –
GET /api/v1/namespaces/a/secrets/b                                  y y y –
HEAD /api/v1/namespaces/a/secrets/b                                 y y y –
GET /api/v1/namespaces/a/secrets/b/status                           y y y –
PATCH /api/v1/namespaces/a/secrets/b                                y y – –
POST /api/v1/namespaces/a/secrets                                   y y – –
DELETE /api/v1/namespaces/a/secrets                                 y y – –
GET /api/v1/namespaces/a/configmaps/secrets                         y y y y
GET /api/v1//secrets                                                – – – –
GET /api/v1/%73ecrets                                               – – – –
GET /api/v1/secrets/                                                – – – –
"""


@pytest.mark.parametrize("line", PRESET_GRID.strip().splitlines())
def test_a_preset_refuses_what_its_grid_says(line: str) -> None:
    request, *allowed = re.split(r" +(?=[y–](?: |$))", line)
    for preset, expected in zip(PRESETS, allowed, strict=True):
        assert check(parse_policy(f"presets: {preset}"), request)[0] == (expected == "y"), preset


@pytest.mark.parametrize("preset", ["no-shell", "read-only"])
@pytest.mark.parametrize("field", [b"Impersonate-User: joe", b"impersonate-group: system:masters"])
def test_no_shell_forbids_impersonation(preset: str, field: bytes) -> None:
    decision = parse_policy(f"presets: {preset}").judge(b"GET", b"/api", field + b"\r\n")
    assert decision[:2] == (False, f"{preset}/impersonation")


def test_a_shell_that_upgrades_is_refused_as_a_shell() -> None:
    """Every client of exec upgrades: the rule that is named should say what was asked for."""
    policy = parse_policy("presets: no-shell")
    for request, rule in (
        ("POST /api/v1/namespaces/a/pods/b/exec", "shells"),
        ("GET /api/v1/pods", "upgrades"),
    ):
        assert check(policy, f"{request} upgrade")[1].startswith(f"refused by rule no-shell/{rule}")


def test_presets_forbid_what_each_of_them_forbids() -> None:
    policy = parse_policy("presets: [read-only, no-secrets]")
    assert check(policy, "GET /api/v1/secrets")[1].startswith("refused by rule no-secrets/secrets")
    assert check(policy, "POST /api/v1/namespaces")[1].startswith("refused by rule read-only/writes")
    assert check(policy, "GET /api/v1/pods")[0]


@pytest.mark.parametrize("request_", ["", "GET", "GET api", "get /api", "GET /api x", "GET /api caller="])
def test_what_is_no_request_is_an_error(request_: str) -> None:
    with pytest.raises(PolicyError, match="--policy-check"):
        check(parse_policy("presets: full"), request_)


def test_a_check_takes_a_caller() -> None:
    policy = parse_policy("{default: deny, rules: [{name: ours, allow: {callers: [argocd]}}]}")
    assert check(policy, "GET /api caller=argocd") == (True, "allowed by rule ours: get /api")
    assert check(policy, "GET /api caller=joe") == (False, "refused by default: get /api")


PAGE = Path(__file__).parents[2] / "docs" / "policy.md"


def test_the_page_shows_every_preset_as_it_is() -> None:
    text = PAGE.read_text("utf-8")
    for preset, rules in PRESETS.items():
        assert f"### `{preset}`" in text
        assert rules in text
        assert all(rule.name.startswith(f"{preset}/") for rule in preset_rules(preset))


def test_the_pages_policies_can_be_used() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    policies = [block for block in blocks if block.startswith(("presets:", "default:"))]
    assert len(policies) >= 2
    for block in policies:
        parse_policy(block)
