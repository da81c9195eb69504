"""What `--mode pki` says when it is done: what it made, and which file goes where, as commands to copy."""

from shlex import quote

from argotun.config import PkiConfig
from argotun.observe.words import plural
from argotun.pki import values
from argotun.pki.folder import Folder

_START = """\
{folder} holds the certificates and values of {count}. Keep ca.key where nobody else gets it.
"""
_SERVER = """
On the management cluster, beside Argo CD:
  helm --kube-context {context} upgrade --install {release} {chart} -n {namespace} --create-namespace {files}
"""
_UNEXPOSED = """
No values say how agents reach {url}. Run this again with --pki-exposure load-balancer, or put values with a
gateway or an ingress into a file of that folder, such as exposure.yaml (docs/exposing-argotun.md).
"""
_UNREGISTERED = """
No values say where several servers find each other, and the chart takes no certificate for them without: put
replicas and registry into a file of that folder, such as replicas.yaml (docs/install.md, Several replicas).
"""
_AGENT = """
On {cluster}, with {file}, which is secret:
  helm --kube-context {cluster} upgrade --install argotun {chart} -n argotun --create-namespace -f {file}
"""
_VOUCHED = """
On {cluster}; nothing in it is secret:
  helm --kube-context {cluster} upgrade --install argotun {chart} -n argotun --create-namespace \\
    --set mode=agent,serverURL={url},serverToken.audience={audience} \\
    --set tls.serverCAData={ca}
"""
_UNCHANGED = """
{count} {verb} already.
"""
_NO_AGENT = """
No cluster is listed yet: run this again with --pki-clusters, or with --pki-keys for clusters that vouch for
their agents themselves (docs/install.md).
"""


def introduction(folder: Folder, config: PkiConfig) -> str:
    """The text for a folder that was just filled."""
    clusters = folder.clusters()
    words = {"chart": quote(config.pki_chart), "url": config.pki_server.text}
    text = _START.format(folder=folder.path, count=plural(len(clusters), "cluster")) + folder.report.text()
    text += _SERVER.format(
        **words,
        context=quote(config.pki_context),
        release=config.pki_release,
        namespace=config.pki_namespace,
        files=" ".join(f"-f {quote(str(file))}" for file in folder.values_files()),
    )
    if not folder.exposed:
        text += _UNEXPOSED.format(**words)
    if folder.unregistered:
        text += _UNREGISTERED
    if not clusters:
        return text + _NO_AGENT
    asked = {*config.pki_clusters, *(each for each, _ in config.pki_keys), *folder.report.changed}
    for cluster in sorted(asked):
        if folder.vouched(cluster):
            ca = values.encoded(folder.path / "ca.crt")
            audience = values.audience(cluster, config.pki_server)
            text += _VOUCHED.format(**words, cluster=cluster, audience=audience, ca=ca)
        else:
            file = quote(str(folder.agent(cluster) / "agent.yaml"))
            text += _AGENT.format(**words, cluster=cluster, file=file)
    if rest := len(clusters) - len(asked):
        verb = "has what it needs" if rest == 1 else "have what they need"
        text += _UNCHANGED.format(count=plural(rest, "cluster"), verb=verb)
    return text
