"""What `--help` says: on one screen what most people need; `--help-all` has every option.

Which options are common, and the examples, are decided here. All else comes from the table.
"""

import textwrap

from argotun.options.table import BY_NAME, CHECK, EVERY, MODE, Option

WIDTH = 80
"""Columns: those of a terminal that nobody made wider."""

LEFT = 22
"""Columns of the names; a longer one has a line of its own."""

BRIEF = 28
"""Characters of a default that is shown; the longer ones are paths."""

MODES = {
    "server": "beside Argo CD: agents dial it, and clients reach their clusters through it",
    "agent": "in a customer's cluster: dials the server, and passes requests on to its API",
    "demo": "all of it on this machine in one go, against a stand-in API or your cluster",
    "pki": "makes a CA, certificates, tokens and the chart's values for both sides",
    "status": "shows how a server or an agent does; exit code 0 where all is well, else 1",
}

EXAMPLES = {
    "server": (
        "argotun server --clusters clusters.json --tls-client-ca ca.pem \\",
        "    --tls-cert server.pem --tls-key server.key",
    ),
    "agent": (
        "argotun agent --server wss://tunnel.example.com --token-file token \\",
        "    --server-ca-cert ca.pem --client-cert agent.pem --client-key agent.key",
    ),
    "demo": ("argotun demo --kubeconfig ~/.kube/config",),
    "pki": ("argotun pki --pki-server wss://tunnel.example.com --pki-clusters shop,bank",),
    "status": ("argotun status http://127.0.0.1:8081",),
}

COMMON = {
    "server": (
        "clusters",
        "addr",
        "internal-addr",
        "tls-cert",
        "tls-key",
        "tls-client-ca",
        "callers",
        "reconnect-grace",
        "drain",
        "log-level",
    ),
    "agent": (
        "server",
        "token-file",
        "server-ca-cert",
        "client-cert",
        "client-key",
        "target",
        "ca-cert",
        "sa-token-path",
        "proxy",
        "policy",
        "drain",
        "log-level",
    ),
    "demo": ("demo-once", "kubeconfig", "context"),
    "pki": ("pki-folder", "pki-server", "pki-clusters", "pki-keys", "pki-exposure", "pki-names", "pki-renew"),
    "status": (
        "status-url",
        "status-ca-cert",
        "status-client-cert",
        "status-client-key",
        "status-token-file",
    ),
}


USAGE = f"argotun [check] {MODE.kind.metavar} [option ...]"

CHECKED = ("server", "agent")
"""Modes that --check walks."""

CLOSING = {
    False: ("--print-config shows what is in force and why; --help-all lists every option.",),
    True: (
        "--check walks all that it would do; --print-config shows what is in force and",
        "why; --help-all lists every option.",
    ),
}

WORDS = {"status": "status-url"}
"""The option that a lone word behind a mode stands for."""


def overview() -> str:
    """What the program is and which modes it has."""
    lines = [
        f"usage: {USAGE}",
        "",
        "A reverse tunnel from customers' Kubernetes clusters to a managed Argo CD.",
        "",
        *_columns(list(MODES.items())),
        "",
        "  argotun check MODE ... walk what server or agent would do, and say what fails",
        "  argotun MODE --help    the common options of a mode, with an example",
        "  argotun --help-all     every option of every mode",
        "  argotun --version      the version",
        "",
        "--mode MODE says the same as the word. Every option can also come from the",
        "environment (ARGOTUN_DRAIN) or a file of `name: value` lines (--config FILE).",
    ]
    return "\n".join(lines) + "\n"


def of_mode(mode: str) -> str:
    """The common options of one mode, an example first."""
    rows = [(_flag(option), _told(option, mode)) for option in map(BY_NAME.__getitem__, COMMON[mode])]
    lines = [
        f"usage: argotun {mode} [option ...]",
        "",
        *textwrap.wrap(f"{mode}: {MODES[mode]}", WIDTH),
        "",
        *(f"  {line}" for line in EXAMPLES[mode]),
        "",
        *_columns(rows),
        "",
        *CLOSING[mode in CHECKED],
    ]
    return "\n".join(lines) + "\n"


def short(mode: str) -> str:
    """What `--help` prints beside this mode; the overview for "" and for what is none."""
    return of_mode(mode) if mode in EVERY else overview()


def with_mode(argv: list[str]) -> list[str]:
    """The command line with its first word, where that is a mode, as the option that it stands for.

    `check`, before it or by itself, stands for an option too, and a second word may be one: see WORDS.
    """
    if argv[:1] == ["check"]:
        # What follows may name another form.
        return [f"{CHECK.flag}={CHECK.choices[0]}", *with_mode(argv[1:])]
    if not argv or argv[0] not in EVERY:
        return argv
    mode, *rest = argv
    if mode in WORDS and rest and not rest[0].startswith("-"):
        rest.insert(0, f"--{WORDS[mode]}")
    return [MODE.flag, mode, *rest]


def _flag(option: Option) -> str:
    metavar = "" if option.kind.is_switch else f" {option.kind.metavar}"
    return option.flag + metavar


def _told(option: Option, mode: str) -> str:
    default = option.show(option.default(mode))
    brief = default and len(default) <= BRIEF and not option.kind.is_switch
    return f"{option.help} [{default}]" if brief else option.help


def _columns(rows: list[tuple[str, str]]) -> list[str]:
    """Two columns; what does not fit goes on below, in the second."""
    width = min(max(len(left) for left, _ in rows), LEFT) + 4
    lines = []
    for left, right in rows:
        told = textwrap.wrap(right, WIDTH - width, break_on_hyphens=False)
        if len(left) > LEFT:
            told.insert(0, "")
        lines.append(f"  {left.ljust(width - 2)}{told[0]}".rstrip())
        lines += [" " * width + line for line in told[1:]]
    return lines
