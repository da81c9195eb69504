"""The go.mod that builds another release of Argo CD."""

from tests.argocd.harness.program import module

THEIRS = """\
module github.com/argoproj/argo-cd/v3

go 1.26.0

require (
\tgithub.com/argoproj/argo-cd/gitops-engine v0.7.1
\tk8s.io/api v0.34.0
)

require (
\tk8s.io/kubernetes v1.34.2 // indirect
)

replace (
\tgolang.org/x/tools => golang.org/x/tools v0.35.0
\tk8s.io/api => k8s.io/api v0.34.0
)

replace github.com/argoproj/argo-cd/gitops-engine => ./gitops-engine
"""

OURS = """\
module skew

go 1.26.0

require (
\tgithub.com/argoproj/argo-cd/gitops-engine v0.7.1
\tk8s.io/api v0.34.0
)

require (
\tk8s.io/kubernetes v1.34.2 // indirect
)

replace (
\tgolang.org/x/tools => golang.org/x/tools v0.35.0
\tk8s.io/api => k8s.io/api v0.34.0
)

replace github.com/argoproj/argo-cd/gitops-engine => github.com/argoproj/argo-cd/gitops-engine v0.0.0-2026-c9

replace k8s.io/kubernetes => k8s.io/kubernetes v1.34.2

require github.com/argoproj/argo-cd/v3 v3.4.13
"""

ENGINE = "replace github.com/argoproj/argo-cd/gitops-engine"


def test_what_argo_cd_replaces_is_kept_and_its_engine_is_a_module() -> None:
    assert module(THEIRS, "3.4.13", "v0.0.0-2026-c9") == OURS


def test_an_engine_with_releases_is_the_one_that_argo_cd_asks_for() -> None:
    newer = THEIRS.replace(f"{ENGINE} =>", f"{ENGINE}/v3 =>")
    assert ENGINE not in module(newer, "3.6.1", "v0.0.0-2026-c9")
    assert "golang.org/x/tools => " in module(newer, "3.6.1", "v0.0.0-2026-c9")
