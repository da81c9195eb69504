"""What `--mode pki` says when it is done: which file goes where, as commands to copy."""

from argotun.config import PkiConfig
from argotun.pki.folder import Folder

_SERVER = """\
{folder} holds the certificates, tokens and values of {count}. Keep ca.key where nobody else gets it.

On the management cluster, beside Argo CD:
  helm upgrade --install {release} ./chart -n {namespace} --create-namespace -f {folder}/server.yaml
"""
_AGENT = """
On {cluster}:
  helm upgrade --install argotun ./chart -n argotun --create-namespace -f {folder}/agent.yaml
"""
_NO_AGENT = """
No cluster is listed yet: run this again with --pki-clusters, or list clusters that prove themselves by a
ServiceAccount token (docs/install.md) in values of your own.
"""


def introduction(folder: Folder, config: PkiConfig) -> str:
    """The text for a folder that was just filled."""
    clusters = folder.clusters()
    count = "1 cluster" if len(clusters) == 1 else f"{len(clusters)} clusters"
    text = _SERVER.format(
        folder=folder.path, count=count, namespace=config.pki_namespace, release=config.pki_release
    )
    for cluster in config.pki_clusters or clusters:
        text += _AGENT.format(cluster=cluster, folder=folder.agent(cluster))
    return text if clusters else text + _NO_AGENT
