"""An agent's own API: dialled and asked as the agent does it, and what Argo CD will need there."""

import json
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import Any

from argotun.agent.api import STEPS, KubernetesApi
from argotun.agent.policy import PolicyFile
from argotun.agent.reach import Reach
from argotun.check import certificates, tokens
from argotun.check.needs import DISCOVERY, NEEDS, Need
from argotun.check.steps import Walk
from argotun.config import AgentConfig
from argotun.errors import ArgotunError, HandshakeError
from argotun.observe.metrics import AgentMetrics
from argotun.transport.explain import explain
from argotun.transport.reply import printable

NAMES = {"resolve": "api.dns", "connect": "api.tcp", "tls": "api.tls"}
"""What a step of the agent's is called here, in their order."""

LARGEST = 1 << 20
"""Bytes of an answer to a review; an account's groups are a few names."""


def walk(
    config: AgentConfig, api: KubernetesApi, metrics: AgentMetrics, policy: PolicyFile | None, found: Walk
) -> None:
    """Walk to the API and ask it; the policy is looked at whether the API answers or not."""
    credential = _credential(config, api, found)
    if _reached(api, found) and credential is not None and _answers(api, metrics, found):
        _ask(Questions(api, credential, config.dial_timeout), found)
    if policy is not None:
        judge(policy, found)


def files(config: AgentConfig, api: KubernetesApi, found: Walk) -> None:
    """Read what the API is shown, and what it is verified by."""
    _credential(config, api, found)
    ends = api.tls.expiry() if api.tls is not None else {}
    if config.target_client_cert is not None and "api_certificate" in ends:
        names = certificates.of_file(config.target_client_cert).names
        says = f"the certificate in {config.target_client_cert} is that of {names}, and"
        certificates.look(found, "api.cert", says, ends["api_certificate"])
    if config.ca_cert is not None and "api_ca" in ends:
        certificates.look(found, "api.ca", f"the CA in {config.ca_cert}", ends["api_ca"])


def _credential(config: AgentConfig, api: KubernetesApi, found: Walk) -> bytes | None:
    """The field that each request carries, None where there is none to carry."""
    if not config.sa_token_path:
        found.ok("api.token", "there is none: the client certificate is the credential (--sa-token-path off)")
        return b""
    credential = found.attempt("api.token", api.credential)
    if credential is None:
        return None
    token = credential.strip().rpartition(b" ")[2]
    tokens.look(found, "api.token", token, f"--sa-token-path {config.sa_token_path}")
    return credential


def _reached(api: KubernetesApi, found: Walk) -> bool:
    """Walk to the API; whether it was reached."""
    with closing(api.approach()) as steps:
        last = STEPS[-1] if api.tls is not None else "connect"
        sock = found.approach(steps, NAMES, last, lambda name, given: _tell(name, given, api, found))
    if sock is not None:
        sock.close()
    return sock is not None


def _tell(name: str, given: Any, api: KubernetesApi, found: Walk) -> None:
    if name == "resolve":
        addresses = ", ".join(dict.fromkeys(str(address[4][0]) for address in given))
        found.ok(NAMES[name], f"{api.address} is dialled at {addresses}")
    elif name == "connect":
        found.ok(NAMES[name], "the API's port answers")
    else:
        version = f"{given.version()}"
        certificates.tell(
            found,
            NAMES[name],
            given,
            lambda names: f"{version}; the API's certificate is that of {names}, and",
            version,
            "renew it on the API's side",
        )


def _answers(api: KubernetesApi, metrics: AgentMetrics, found: Walk) -> bool:
    """Ask for `/version`, as the agent keeps asking."""
    try:
        version = Reach(api, metrics, 0.0).ask()
    except (ArgotunError, OSError) as error:
        found.fail("api.version", str(error) if isinstance(error, ArgotunError) else explain(error))
        return False
    if not version:
        found.warn(
            "api.version",
            "the API answers and does not say its version",
            "see whether it is a Kubernetes API",
        )
    else:
        found.ok("api.version", f"the API answers: Kubernetes {version}")
    return True


class Questions:
    """Reviews, asked one after the other on a connection that the agent's own dialler made."""

    def __init__(self, api: KubernetesApi, credential: bytes, timeout: float) -> None:
        """`credential` is the header line of each request, `timeout` for each answer in seconds."""
        self._api = api
        self._connection = HTTPConnection(api.host.decode("ascii"), timeout=timeout)
        self._timeout = timeout
        name, _, value = credential.decode("ascii").strip().partition(": ")
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if value:
            self._headers[name] = value

    def ask(self, path: str, review: dict[str, object]) -> tuple[int, dict[str, Any]]:
        """The status and the object that the API answers a POST with, {} for none; raises ArgotunError."""
        connection = self._connection
        try:
            if connection.sock is None:
                connection.sock = self._api.dial()
                connection.sock.settimeout(self._timeout)
            connection.request("POST", path, json.dumps(review), self._headers)
            answer = connection.getresponse()
            data = answer.read(LARGEST)
        except HTTPException as error:
            self.close()
            # Its words may quote what came.
            raise HandshakeError(f"the API did not answer in HTTP/1.1 ({type(error).__name__})") from None
        except OSError as error:
            self.close()
            raise HandshakeError(f"the API did not answer: {explain(error)}") from None
        try:
            said = json.loads(data)
        except (ValueError, RecursionError):
            said = {}
        return answer.status, said if isinstance(said, dict) else {}

    def close(self) -> None:
        """Ask nothing any more."""
        self._connection.close()


def _ask(questions: Questions, found: Walk) -> None:
    try:
        namespace = _who(questions, found)
        _rights(questions, namespace, found)
    except ArgotunError as error:
        found.fail("api.rights", str(error))
    finally:
        questions.close()


def _who(questions: Questions, found: Walk) -> str:
    """Who the API says we are; the namespace of a ServiceAccount, "" for anybody else."""
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    review: dict[str, object] = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    status, said = questions.ask(path, review)
    user = _at(said, "status", "userInfo", "username")
    if status == 404:
        found.warn(
            "api.self", "the API does not say who it takes the agent for", "Kubernetes does from 1.28 on"
        )
        return ""
    if status not in (200, 201) or not isinstance(user, str):
        found.fail("api.self", f"the API does not say who it takes the agent for: {_refusal(status, said)}")
        return ""
    if user == "system:anonymous":
        found.fail(
            "api.self",
            "to the API the agent is nobody: system:anonymous",
            "name a credential: --sa-token-path",
        )
        return ""
    found.ok("api.self", f"to the API the agent is {printable(user)}")
    parts = user.split(":")
    return parts[2] if len(parts) == 4 and parts[:2] == ["system", "serviceaccount"] else ""


def _rights(questions: Questions, namespace: str, found: Walk) -> None:
    """Whether the account may do what Argo CD will ask for."""
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    missing = []
    for need in NEEDS:
        status, said = questions.ask(path, need.review(""))
        allowed = _at(said, "status", "allowed")
        if status not in (200, 201) or not isinstance(allowed, bool):
            found.fail(
                "api.rights",
                f"the API does not say what the agent may do: {_refusal(status, said)}",
                "give the agent's ServiceAccount the ClusterRole system:basic-user, as all users have it",
            )
            return
        if not allowed:
            missing.append(need)
    if not missing:
        found.ok(
            "api.rights",
            f"the agent's account may do all of the {len(NEEDS)} things that Argo CD will ask for",
        )
    elif any(need.reads and need not in missing for need in NEEDS):
        found.warn(
            "api.rights",
            f"the agent's account may not {_listed(missing)}",
            "if Argo CD is to do that here, widen the account's role (the chart: rbac.preset, rbac.rules)",
        )
    elif namespace and _at(questions.ask(path, _LIST_PODS.review(namespace))[1], "status", "allowed") is True:
        found.warn(
            "api.rights",
            f"the agent's account may read namespace {printable(namespace)}, and nothing in all of the "
            "cluster",
            "name the namespaces in Argo CD's cluster secret, or bind a ClusterRole to the account",
        )
    else:
        found.fail("api.rights", "the agent's account may read nothing in all of the cluster")


_LIST_PODS = Need("list", "pods")


def judge(policy: PolicyFile, found: Walk) -> None:
    """What the customer's policy says to the same."""
    refused = [need for need in NEEDS if policy.refuses(*need.request(), upgrade=need.subresource == "exec")]
    discovery = [path.decode() for path in DISCOVERY if policy.refuses(b"GET", path)]
    rules = f"the policy ({policy.rules} rule{'s' if policy.rules != 1 else ''} in force)"
    if len(refused) == len(NEEDS):
        found.fail("policy", f"{rules} refuses all that Argo CD will ask for")
    elif discovery:
        found.fail(
            "policy", f"{rules} refuses {', '.join(discovery)}, which Argo CD asks for before anything else"
        )
    elif refused:
        found.warn(
            "policy",
            f"{rules} does not let Argo CD {_listed(refused)}",
            "if Argo CD is to do that here, allow it; who wrote the policy may have meant just this",
        )
    else:
        found.ok("policy", f"{rules} lets all pass that Argo CD will ask for")


def _listed(needs: list[Need]) -> str:
    return ", ".join(map(str, needs))


def _refusal(status: int, said: dict[str, Any]) -> str:
    message = said.get("message")
    return f"{status} {printable(message)}" if isinstance(message, str) else f"{status}"


def _at(said: dict[str, Any], *keys: str) -> object:
    value: object = said
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
