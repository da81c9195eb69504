"""A real Argo CD with many clusters, a share of which is cut off and comes back; by argotun and directly.

`python -m bench.argocd` runs it; docs/argocd.md has what came of it. All of it lives in a network of its own,
a loopback in which packets to and from the clusters that are cut off vanish. It needs root, and what
`make argocd` needs.
"""
