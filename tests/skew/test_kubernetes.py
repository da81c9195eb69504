"""The go.mod that builds another minor version of Kubernetes."""

from tests.skew.kubernetes import module

THEIRS = """\
module k8s.io/kubernetes

go 1.24.0

require (
\tgithub.com/spf13/cobra v1.8.1
\tk8s.io/api v0.0.0
\tk8s.io/klog/v2 v2.130.1
)

replace (
\tk8s.io/api => ./staging/src/k8s.io/api
\tk8s.io/kubectl => ./staging/src/k8s.io/kubectl
)
"""

OURS = """\
module skew

go 1.24.0

require (
\tgithub.com/spf13/cobra v1.8.1
\tk8s.io/api v0.33.13
\tk8s.io/klog/v2 v2.130.1
)

replace (
\tk8s.io/api => k8s.io/api v0.33.13
\tk8s.io/kubectl => k8s.io/kubectl v0.33.13
)

require k8s.io/kubernetes v1.33.13
"""


def test_the_parts_of_the_repository_are_modules_at_the_matching_version() -> None:
    assert module(THEIRS, "1.33.13") == OURS
