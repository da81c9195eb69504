"""The guided run: set the stage, walk through the steps, say what to try, stay up until Ctrl-C."""

import sys

from gevent.event import Event

from argotun.config import DemoConfig
from argotun.config.network import show_address
from argotun.demo.stage import CLUSTER, Stage
from argotun.demo.steps import OWN_CLUSTER_STEPS, STAND_IN_STEPS, Scene
from argotun.errors import ArgotunError
from argotun.process import interruptible
from argotun.streams import coloured

FAILED = 1


def run(config: DemoConfig) -> int:
    """Run the demo: 0 where every step showed what it claims (then, unless `--demo-once`, on Ctrl-C), else 1.

    Raises ConfigError for a kubeconfig that cannot be used, other ArgotunErrors where the stage cannot be
    set, and KeyboardInterrupt for Ctrl-C or SIGTERM during the steps; what was made is removed each time.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    with interruptible(), Stage(config) as stage:
        _introduce(stage)
        scene = Scene(stage)
        try:
            shown = _walk(scene)
        finally:
            if stage.stand_in is None:
                _say(f"\nClean up: {scene.clean_up()}.")
        if not shown:
            _say("\nThe demo ends here: this step did not show what it claims.")
            return FAILED
        _say("\nEvery step was checked and showed what it claims.")
        if not config.demo_once:
            _suggest(stage, scene)
            _stay()
        return 0


def _walk(scene: Scene) -> bool:
    """Run the steps, up to the first that fails; True where all showed what they claim."""
    steps = OWN_CLUSTER_STEPS if scene.stage.stand_in is None else STAND_IN_STEPS
    for number, step in enumerate(steps, 1):
        _say(f"\n{_bold(f'{number}. {step.title}')}")
        try:
            step.run(scene, lambda text: _say(f"   {text}"))
        except ArgotunError as error:
            _say(f"   FAILED: {error}")
            return False
    return True


def _introduce(stage: Stage) -> None:
    made, upstream = stage.certificates is not None, stage.upstream
    tunnel = "══ wss, mutual TLS ══" if made else "── ws, NOT encrypted ──"
    last = "── http, NOT encrypted ──▶" if upstream.plain else "── https ──▶"
    api = "stand-in API" if stage.stand_in else "your API"
    host, port = stage.server.public_address
    _say(_bold("argotun demo: server, agent and client in one process, on loopback"))
    _say()
    _say(f"  client ── http ──▶ server {tunnel} agent {last} {api} {show_address(upstream.address)}")
    _say(f"  The client asks {stage.url}; the agent dialled {host}:{port}; nothing dials the agent.")
    if made:
        _say("  The tunnel's certificates were made a moment ago and go when the demo ends.")
    else:
        _say("  The tunnel is not encrypted: certificates need the openssl program, which did not work here.")
    if stage.stand_in:
        _say("  The API is a stand-in: it keeps objects in memory, allows everything and runs nothing.")
        _say("  For the same with your own cluster: --kubeconfig FILE [--context NAME]")
        return
    _say(f"  The API is your own, context {upstream.context!r}. What will be done there:")
    _say("  one new namespace, argotun-demo-…, with one configmap; it is deleted again at the end.")
    if upstream.insecure:
        _say("  The kubeconfig says not to verify its certificate, so the agent does not.")


def _suggest(stage: Stage, scene: Scene) -> None:
    url, kubectl = stage.tunnel_url, f"kubectl --server={stage.tunnel_url}"
    _say(f"\n{_bold('Still up. To try in another terminal:')}")
    if stage.stand_in:
        _say(f"   curl {url}/api/v1/namespaces/{scene.namespace}/configmaps/greeting")
        _say(f"   {kubectl} -n {scene.namespace} get deployments,pods")
        _say(f"   {kubectl} -n {scene.namespace} get pods --watch")
        _say(f"   {kubectl} -n {scene.namespace} set image deployment/web web=nginx:1.30")
    else:
        _say(f"   curl {url}/version")
        _say(f"   {kubectl} get namespaces")
        _say("   (whoever reaches that port has the kubeconfig's rights: on loopback only, until Ctrl-C)")
    _say(f"   curl {stage.url}/status")
    _say(f"   curl -s {stage.url}/metrics | grep {CLUSTER}")
    _say("Ctrl-C ends it.")


def _stay() -> None:
    try:
        Event().wait()
    except KeyboardInterrupt:
        _say("\nThe demo ends; nothing of it is left.")


def _bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m" if coloured(sys.stdout) else text


def _say(text: str = "") -> None:
    print(text, flush=True)
