"""Rules: what each condition holds for, what is not known, which rule decides, and how long that takes."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argotun.policy.grammar import parse_policy
from argotun.policy.requestinfo import RequestInfo
from argotun.policy.rules import Condition, Policy, Rule

GET_POD = "GET /api/v1/namespaces/team-a/pods/web"


def judged(rules: str, request: str, default: str = "deny", **more: object) -> str:
    """`allow` or `deny`, and by which rule."""
    policy = parse_policy(f"default: {default}\nrules:\n{rules}")
    method, target = request.encode().split()
    decision = policy.judge(method, target, **more)  # type: ignore[arg-type]
    return f"{'allow' if decision.allowed else 'deny'} {decision.rule}"


# One rule, a request, whether the rule holds; the default is the opposite of what the rule says.
HOLDS = """
allow {}                                        | GET /api/v1/pods                          | yes
allow {}                                        | GET /version                              | yes
allow {verbs: [get]}                            | GET /api/v1/namespaces/a/pods/b           | yes
allow {verbs: [get]}                            | GET /api/v1/pods                          | no
allow {verbs: [get]}                            | GET /version                              | yes
allow {verbs: ["*"]}                            | OPTIONS /api/v1/pods                      | yes
allow {verbs: {except: [list]}}                 | GET /api/v1/pods?watch=1                  | yes
allow {verbs: {except: [list]}}                 | GET /api/v1/pods                          | no
allow {apiGroups: [""]}                         | GET /api/v1/pods                          | yes
allow {apiGroups: [""]}                         | GET /apis/apps/v1/deployments             | no
allow {apiGroups: [apps]}                       | GET /apis/apps/v1beta1/deployments        | yes
allow {apiGroups: ["*"]}                        | GET /apis/apps/v1/deployments             | yes
allow {apiGroups: ["*"]}                        | GET /version                              | no
allow {resources: [pods]}                       | GET /api/v1/namespaces/a/pods/b           | yes
allow {resources: [pods]}                       | GET /api/v1/namespaces/a/pods/b/log       | no
allow {resources: [pods/log]}                   | GET /api/v1/namespaces/a/pods/b/log       | yes
allow {resources: [pods/*]}                     | GET /api/v1/namespaces/a/pods/b/log       | yes
allow {resources: [pods/*]}                     | GET /api/v1/namespaces/a/pods/b           | no
allow {resources: ["*/scale"]}                  | GET /apis/a/v1/namespaces/a/bs/b/scale    | yes
allow {resources: ["*/scale"]}                  | GET /apis/a/v1/namespaces/a/bs/scale      | no
allow {resources: ["*"]}                        | GET /api/v1/namespaces/a/pods/b/log       | yes
allow {resources: ["*"]}                        | GET /version                              | no
allow {resources: {except: [secrets]}}          | GET /api/v1/namespaces/a/secrets/b        | no
allow {resources: {except: [secrets]}}          | GET /api/v1/namespaces/a/pods/b           | yes
allow {namespaces: [a]}                         | GET /api/v1/namespaces/a/pods             | yes
allow {namespaces: [a]}                         | GET /api/v1/namespaces/a                  | yes
allow {namespaces: [a]}                         | GET /api/v1/namespaces/ab/pods            | no
allow {namespaces: ["a*"]}                      | GET /api/v1/namespaces/ab/pods            | yes
allow {namespaces: [a]}                         | GET /api/v1/pods                          | no
allow {namespaces: [a]}                         | GET /api/v1/nodes/a                       | no
allow {namespaces: ["*"]}                       | GET /api/v1/pods                          | yes
allow {namespaces: {except: [kube-system]}}     | GET /api/v1/namespaces/a/pods             | yes
allow {namespaces: {except: [kube-system]}}     | GET /api/v1/namespaces/kube-system/pods   | no
allow {namespaces: {except: [kube-system]}}     | GET /api/v1/pods                          | no
allow {namespaces: {except: [kube-system]}}     | GET /api/v1/pods?fieldSelector=metadata.name=a | no
deny  {namespaces: [kube-system]}               | GET /api/v1/namespaces/kube-system/pods   | yes
deny  {namespaces: [kube-system]}               | GET /api/v1/namespaces/a/pods             | no
deny  {namespaces: [kube-system]}               | GET /api/v1/pods                          | yes
deny  {namespaces: [kube-system]}               | GET /api/v1/watch/pods                    | yes
deny  {namespaces: [kube-system]}               | GET /api/v1/pods?fieldSelector=metadata.name=a | yes
deny  {namespaces: [kube-system]}               | GET /api/v1/nodes/n1                      | no
deny  {namespaces: [kube-system]}               | DELETE /api/v1/namespaces/kube-system     | yes
deny  {namespaces: [kube-system]}               | GET /version                              | no
deny  {namespaces: {except: [a]}}               | GET /api/v1/namespaces/a/pods             | no
deny  {namespaces: {except: [a]}}               | GET /api/v1/pods                          | yes
allow {resourceNames: [b]}                      | GET /api/v1/namespaces/a/pods/b           | yes
allow {resourceNames: [b]}                      | GET /api/v1/namespaces/a/pods             | no
allow {resourceNames: [b]}                      | GET /api/v1/pods?fieldSelector=metadata.name%3Db | yes
allow {resourceNames: [b]}                      | POST /api/v1/namespaces/a/pods            | no
deny  {resourceNames: [b]}                      | GET /api/v1/namespaces/a/pods/c           | no
deny  {resourceNames: [b]}                      | GET /api/v1/namespaces/a/pods             | yes
deny  {resourceNames: [b]}                      | POST /api/v1/namespaces/a/pods            | yes
deny  {resourceNames: [b]}                      | DELETE /api/v1/namespaces/a/pods          | yes
allow {nonResourceURLs: [/version]}             | GET /version                              | yes
allow {nonResourceURLs: [/version]}             | GET /versions                             | no
allow {nonResourceURLs: ["/api/*"]}             | GET /api/v1                               | yes
allow {nonResourceURLs: ["/api/*"]}             | GET /api/v1/pods                          | no
allow {nonResourceURLs: ["*"]}                  | GET /api/v1/pods                          | no
allow {nonResourceURLs: {except: [/metrics]}}   | GET /metrics                              | no
allow {nonResourceURLs: {except: [/metrics]}}   | GET /version                              | yes
allow {nonResourceURLs: [/version]}             | GET /version/                             | no
allow {nonResourceURLs: [/version/]}            | GET /version/                             | no
allow {nonResourceURLs: [/version, /version/]}  | GET /version/                             | yes
deny  {nonResourceURLs: [/logs]}                | GET /logs/                                | yes
deny  {nonResourceURLs: ["/logs/*"]}            | GET /logs/                                | yes
deny  {nonResourceURLs: [/logs]}                | GET /                                     | no
allow {upgrade: false}                          | GET /api/v1/pods                          | yes
allow {upgrade: true}                           | GET /api/v1/pods                          | no
"""


@pytest.mark.parametrize("line", HOLDS.strip().splitlines())
def test_a_rule_holds_for_what_its_conditions_say(line: str) -> None:
    rule, request, holds = (part.strip() for part in line.split("|"))
    effect, conditions = rule.split(maxsplit=1)
    other = {"allow": "deny", "deny": "allow"}[effect]
    text = f"- name: one\n  {effect}: {conditions}"
    assert judged(text, request, other) == (f"{effect} one" if holds == "yes" else f"{other} default")


def test_the_first_rule_that_holds_decides() -> None:
    rules = """
- {name: first, allow: {resources: [pods], namespaces: [team-a]}}
- {name: second, deny: {resources: [pods]}}
- {name: third, allow: {}}
"""
    assert judged(rules, GET_POD) == "allow first"
    assert judged(rules, GET_POD.replace("team-a", "team-b")) == "deny second"
    assert judged(rules, "GET /version") == "allow third"


@pytest.mark.parametrize(
    ("caller", "allow", "deny"),
    [
        ("argocd", "allow one", "deny one"),
        ("joe", "deny default", "allow default"),
        ("", "deny default", "deny one"),
    ],
)
def test_a_caller_that_is_not_known_is_denied_and_never_allowed(caller: str, allow: str, deny: str) -> None:
    assert judged("- {name: one, allow: {callers: [argo*]}}", GET_POD, caller=caller) == allow
    assert judged("- {name: one, deny: {callers: [argocd]}}", GET_POD, "allow", caller=caller) == deny


def test_an_upgrade_is_asked_about() -> None:
    rules = "- {name: one, deny: {upgrade: true}}"
    assert judged(rules, GET_POD, "allow", upgrade=True) == "deny one"
    assert judged(rules, GET_POD, "allow", upgrade=False) == "allow default"


def test_impersonation_is_asked_about_before_the_request_itself() -> None:
    rules = """
- {name: dev, allow: {verbs: [impersonate], resources: [groups], resourceNames: [dev]}}
- {name: nobody, deny: {verbs: [impersonate]}}
"""
    user, dev, root = (
        b"Impersonate-%b\r\n" % field for field in (b"User: joe", b"Group: dev", b"Group: system:masters")
    )
    assert judged(rules, GET_POD, "allow", fields=dev) == "allow default"
    assert judged(rules, GET_POD, "allow", fields=dev + root) == "deny nobody"
    assert judged(rules, GET_POD, "allow", fields=user) == "deny nobody"
    readers = "- {name: read, allow: {verbs: [get]}}"
    assert judged(readers, GET_POD, fields=b"Host: x\r\n") == "allow read"
    assert judged(readers, GET_POD, fields=user) == "deny default"


def test_a_target_that_is_not_canonical_is_refused_whatever_the_rules_say() -> None:
    assert judged("- {name: all, allow: {}}", "GET /api/v1//pods", "allow") == "deny not-canonical"


# ── the tables say what asking each rule would say ─────────────────────────────────────────────

VALUES = ("a", "ab", "b", "c")
CONDITIONS = st.none() | st.builds(
    Condition,
    st.lists(st.sampled_from(("a", "a*", "b", "c*")), min_size=1, max_size=3).map(tuple) | st.just(("*",)),
    st.booleans(),
).filter(lambda condition: condition != (("*",), True))
RULES = st.lists(
    st.builds(
        Rule,
        st.just("r"),
        st.booleans(),
        verbs=st.none()
        | st.builds(Condition, st.just(("get", "list", "create")) | st.just(("list",)), st.booleans()),
        groups=CONDITIONS,
        resources=st.none(),
        paths=st.none(),
        namespaces=CONDITIONS,
        names=CONDITIONS,
        callers=CONDITIONS,
        upgrade=st.none() | st.booleans(),
    ),
    max_size=70,
)
MAYBE = st.sampled_from(("", *VALUES))


def one_by_one(rules: list[Rule], info: RequestInfo, caller: str, upgrade: bool) -> Rule | None:
    """The first rule that holds, as a person would find it."""

    def suits(rule: Rule, condition: Condition | None, value: str, known: bool) -> bool:
        if condition is None:
            return True
        if not known:
            return not rule.allow or condition == (("*",), False)
        hit = any(
            value.startswith(each[:-1]) if each.endswith("*") else value == each for each in condition.values
        )
        return hit != condition.negated

    for rule in rules:
        if (
            suits(rule, rule.verbs, info.verb, True)
            and suits(rule, rule.groups, info.group, True)
            and suits(rule, rule.namespaces, info.namespace, bool(info.namespace) or info.verb != "list")
            and suits(rule, rule.names, info.name, bool(info.name))
            and suits(rule, rule.callers, caller, bool(caller))
            and rule.upgrade in (None, upgrade)
        ):
            return rule
    return None


@given(RULES, st.sampled_from(("get", "list", "create")), MAYBE, MAYBE, MAYBE, MAYBE, st.booleans())
def test_the_tables_say_what_asking_each_rule_would_say(
    rules: list[Rule], verb: str, group: str, namespace: str, name: str, caller: str, upgrade: bool
) -> None:
    rules = [rule._replace(name=str(at)) for at, rule in enumerate(rules)]
    info = RequestInfo(True, "/", verb, group, "v1", namespace, "pods", "", name, ("pods",))
    expected = one_by_one(rules, info, caller, upgrade)
    decision = Policy(rules, False).decide(info, caller, upgrade)
    assert decision.rule == (expected.name if expected else "default")
    assert decision.allowed == bool(expected and expected.allow)


def cost(policy: Policy) -> float:
    """Seconds of CPU for a thousand decisions, at best."""
    best = 1e9
    for _ in range(20):
        began = time.thread_time()
        for _ in range(1000):
            policy.judge(b"GET", b"/apis/apps/v1/namespaces/team-a/deployments/web", b"Host: x\r\n", "argocd")
        best = min(best, time.thread_time() - began)
    return best


def test_a_decision_costs_the_same_with_many_rules() -> None:
    many = "".join(
        f"- {{name: r{at}, deny: {{resources: [things{at}], namespaces: [ns-{at}]}}}}\n" for at in range(200)
    )
    assert cost(parse_policy(f"default: allow\nrules:\n{many}")) < 3 * cost(
        parse_policy("presets: [no-shell]")
    )
