"""The guided run: set the stage, walk through the steps, say what to try, stay up until Ctrl-C."""

import sys
import textwrap

from gevent.event import Event

from argotun.check.show import marks
from argotun.check.steps import FAILED, OK
from argotun.config import DemoConfig
from argotun.config.network import show_address
from argotun.demo.stage import CLUSTER, Stage
from argotun.demo.steps import OWN_CLUSTER_STEPS, STAND_IN_STEPS, Scene
from argotun.errors import ArgotunError
from argotun.process import interruptible
from argotun.streams import coloured

WIDTH = 80
"""Columns that no line of prose exceeds; a word that is longer stays whole."""


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
            return 1
        _say(f"\n{_mark(OK)} Every step was checked and showed what it claims.")
        if not config.demo_once:
            _suggest(stage, scene)
            _stay()
    if not config.demo_once:
        _say("\nThe demo ends; nothing of it is left.")
    return 0


def _walk(scene: Scene) -> bool:
    """Run the steps, up to the first that fails; True where all showed what they claim."""
    steps = OWN_CLUSTER_STEPS if scene.stage.stand_in is None else STAND_IN_STEPS
    for number, step in enumerate(steps, 1):
        _say(f"\n{_bold(f'{number}. {step.title}')}")
        try:
            step.run(scene, lambda text: _say(f"   {text}"))
        except ArgotunError as error:
            _say(f"   {_mark(FAILED)} FAILED: {error}")
            return False
        _say(f"   {_mark(OK)} {step.shows}")
    return True


def _introduce(stage: Stage) -> None:
    made, agent = stage.encrypted, stage.target.agent
    tunnel = "◀══wss, mutual TLS══" if made else "◀──ws, plain──"
    last = "──http──▶" if agent.plain_target else "──https──▶"
    api = "stand-in API" if stage.stand_in else "your API"
    _say(_bold("argotun demo: server, agent and client in one process, on loopback"))
    _say()
    _say(f"  client ──http──▶ server {tunnel} agent {last} {api}")
    _say()
    _say(f"  The agent dialled {show_address(stage.server.public_address)}; nothing dials the agent.")
    _say(f"  The client asks {stage.url}.")
    _say(f"  The API is at {show_address(agent.target)}.")
    if made:
        _say("  The tunnel's certificates were made a moment ago and go when the demo ends.")
    else:
        _say("  The tunnel is NOT encrypted: the openssl program did not work here.")
    if agent.plain_target:
        _say("  The way from the agent to the API is NOT encrypted.")
    if stage.stand_in:
        _say("  The API is a stand-in: it keeps objects in memory, allows all, runs nothing.")
        _say("  It has no nodes and no RBAC, and refuses exec, logs and port-forward.")
        _say("  All of that with your own cluster: --kubeconfig FILE [--context NAME]")
        return
    _say(f"  The API is your own, context {stage.target.context!r}. What will be done there:")
    _say("  one new namespace, argotun-demo-…, with a configmap; both go at the end.")
    if agent.insecure:
        _say("  The kubeconfig says not to verify its certificate, so the agent does not.")


def _suggest(stage: Stage, scene: Scene) -> None:
    _say(f"\n{_bold('Still up. To try in another terminal:')}")
    for line in _to_copy(stage, scene.namespace):
        print(f"   {line}", flush=True)
    if stage.stand_in is None:
        _say("   (whoever reaches that port has the kubeconfig's rights: until Ctrl-C, and on loopback only)")
    _say("Ctrl-C ends it.")


def _to_copy(stage: Stage, namespace: str) -> list[str]:
    """Lines for bash and zsh, short by one variable: a line that the terminal breaks is badly copied."""
    tunnel = f"$DEMO/tunnel/{CLUSTER}"
    kubectl = f"kubectl -s {tunnel}"
    if stage.stand_in:
        tries = [
            f"curl -s {tunnel}/api/v1/namespaces/{namespace}/configmaps/greeting",
            f"{kubectl} -n {namespace} get deployments,pods",
            f"{kubectl} -n {namespace} get pods --watch",
            f"{kubectl} -n {namespace} set image deployment/web web=nginx:1.30",
        ]
    else:
        tries = [f"curl -s {tunnel}/version", f"{kubectl} get namespaces"]
    return [
        f"export DEMO={stage.url}",
        *tries,
        "curl -s $DEMO/status",
        f"curl -s $DEMO/metrics | grep {CLUSTER}",
    ]


def _stay() -> None:
    try:
        Event().wait()
    except KeyboardInterrupt:
        pass


def _mark(result: str) -> str:
    return marks(sys.stdout)[result]


def _bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m" if coloured(sys.stdout) else text


def _say(text: str = "") -> None:
    """Print a paragraph, on as many lines as it needs; those after the first are indented a little more."""
    words = text.lstrip()
    begin = text.removesuffix(words)
    rest = begin.replace("\n", "") + "  "
    lines = textwrap.wrap(
        words,
        WIDTH,
        initial_indent=rest[2:],
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    print("\n" * begin.count("\n") + "\n".join(lines), flush=True)
