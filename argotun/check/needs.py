"""What Argo CD asks of a cluster, a dozen things: to the API as access reviews, to a policy as requests."""

from typing import NamedTuple


class Need(NamedTuple):
    """One thing that Argo CD does. `reads` says that nothing of a cluster can be shown without it."""

    verb: str
    resource: str
    group: str = ""
    subresource: str = ""
    reads: bool = False

    def __str__(self) -> str:
        """As a person names it."""
        name = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return f"{self.verb} {name}" + (f" ({self.group})" if self.group else "")

    def review(self, namespace: str) -> dict[str, object]:
        """The SelfSubjectAccessReview that asks for it, in all namespaces where `namespace` is ""."""
        wanted = {"verb": self.verb, "group": self.group, "resource": self.resource, "namespace": namespace}
        if self.subresource:
            wanted["subresource"] = self.subresource
        return {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": wanted},
        }

    def request(self) -> tuple[bytes, bytes]:
        """The method and the target by which it is done."""
        root = f"/apis/{self.group}/v1" if self.group else "/api/v1"
        if self.verb in ("list", "watch"):
            return b"GET", f"{root}/{self.resource}{'?watch=1' if self.verb == 'watch' else ''}".encode()
        where = f"{root}/namespaces/default/{self.resource}"
        if self.verb == "create" and not self.subresource:
            return b"POST", where.encode()
        method = {"get": b"GET", "create": b"POST", "patch": b"PATCH", "delete": b"DELETE"}[self.verb]
        return method, f"{where}/argotun-check{f'/{self.subresource}' if self.subresource else ''}".encode()


NEEDS = (
    Need("list", "namespaces", reads=True),
    Need("list", "pods", reads=True),
    Need("watch", "pods", reads=True),
    Need("list", "secrets", reads=True),
    Need("list", "deployments", "apps", reads=True),
    Need("watch", "deployments", "apps", reads=True),
    Need("list", "customresourcedefinitions", "apiextensions.k8s.io", reads=True),
    Need("create", "deployments", "apps"),
    Need("patch", "deployments", "apps"),
    Need("delete", "deployments", "apps"),
    Need("get", "pods", subresource="log"),
    Need("create", "pods", subresource="exec"),
)

DISCOVERY = (b"/version", b"/api", b"/apis", b"/openapi/v2")
"""What it asks for before anything else."""
