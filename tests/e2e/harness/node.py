"""The part of the binaries that a node takes; tests that need one skip without it."""

import pytest

from .cluster import Cluster

NODE_BINARIES = ("kube-controller-manager", "kwok", "fakekubelet")


def need_node(cluster: Cluster) -> None:
    """Skip the test, and name what is missing, where the cluster has no node."""
    if absent := cluster.binaries.missing(*NODE_BINARIES):
        pytest.skip(f"no pods without {', '.join(absent)} in {cluster.binaries.folder}")
