"""The presets, as the rules that they stand for: text that any policy could hold; docs/policy.md shows it."""

_NO_SHELL = """\
# exec and attach open by GET too; an ephemeral container is a shell that comes later.
- name: shells
  deny:
    resources: ["*/exec", "*/attach", "*/portforward", "*/proxy", "*/ephemeralcontainers"]
- name: proxies
  deny:
    verbs: [proxy]
# Whatever else becomes a raw connection: a virtual machine's console, a watch over WebSocket.
- name: upgrades
  deny:
    upgrade: true
# What a caller could keep, and use without argotun.
- name: tokens
  deny:
    resources: [serviceaccounts/token]
- name: certificates
  deny:
    verbs: {except: [get, list, watch]}
    apiGroups: [certificates.k8s.io]
    resources: [certificatesigningrequests, certificatesigningrequests/*]
- name: impersonation
  deny:
    verbs: [impersonate]
"""

PRESETS = {
    "full": "",
    "no-shell": _NO_SHELL,
    "read-only": _NO_SHELL
    + """\
# A question, which changes nothing.
- name: questions
  allow:
    verbs: [create]
    apiGroups: [authorization.k8s.io, authentication.k8s.io]
    resources: [selfsubjectaccessreviews, selfsubjectrulesreviews, selfsubjectreviews]
- name: writes
  deny:
    verbs: {except: [get, list, watch, head, options]}
""",
    "no-secrets": """\
# In each version, over all namespaces, and whatever hangs below.
- name: secrets
  deny:
    apiGroups: [""]
    resources: [secrets, secrets/*]
""",
}
"""A preset's rules by its name, as YAML. They refuse, and leave the rest to what follows."""
