"""Which source wins, what a mode ignores, and what is printed about it."""

import dataclasses
import re

import pytest

import argotun as package
from argotun.config import AgentConfig, DemoConfig, ServerConfig
from argotun.config.models import CONFIGS, ServerUrl
from argotun.config.network import parse_proxy
from argotun.options.help import EXAMPLES, overview
from argotun.options.sources import help_text
from argotun.options.table import EVERY, GROUPS, MODE, OPTIONS, of_mode

SERVER = ("--mode", "server", "--clusters", "[]", "--internal-addr", "127.0.0.1:8080")
AGENT = (
    "--mode",
    "agent",
    "--server",
    "wss://h",
    "--token",
    "t0k",
    "--ca-cert",
    "PEM",
    "--sa-token-path",
    "FILE",
)


def test_the_defaults_are_those_that_the_documentation_promises(argotun):
    outcome = argotun(SERVER[:4])
    assert outcome.code == 0
    assert outcome.config == ServerConfig(clusters="[]")
    assert outcome.config.addr == ("", 8443)
    assert outcome.config.internal_addr == ("", 8080)
    assert outcome.config.health_addr is None
    assert (outcome.config.drain, outcome.config.keepalive, outcome.config.keepalive_timeout) == (20, 15, 45)
    assert outcome.config.tunnel_buffer == 64 * 1024 * 1024


def test_an_agent_gets_what_its_flags_say(argotun, file, pem):
    outcome = argotun((*AGENT, "--target", "[fd00::1]:6443", "--max-retry", "1m30s", "--health-addr", "off"))
    assert outcome.config == AgentConfig(
        server=ServerUrl("wss://h/connect", host="h"),
        token="t0k",
        ca_cert=pem,
        sa_token_path=file,
        target=("fd00::1", 6443),
        max_retry=90.0,
        health_addr=None,
    )


def test_a_demo_needs_nothing(argotun):
    assert argotun(("--mode", "demo", "--demo-once")).config == DemoConfig(demo_once=True)


@pytest.mark.parametrize(
    ("flag", "environ", "text", "seconds"),
    [
        (("--drain", "1s"), {"ARGOTUN_DRAIN": "2s"}, "drain: 3s", 1),
        ((), {"ARGOTUN_DRAIN": "2s"}, "drain: 3s", 2),
        ((), {}, "drain: 3s", 3),
        ((), {}, "", 20),
        ((), {"ARGOTUN_DRAIN": ""}, "drain: 3s", 3),
        ((), {"ARGOTUN_DRAIN": "  "}, "drain:", 20),
    ],
)
def test_flag_beats_environment_beats_file_beats_default(argotun, flag, environ, text, seconds):
    assert argotun((*SERVER, *flag), environ, text).config.drain == seconds


def test_the_last_of_two_equal_flags_counts(argotun):
    assert argotun((*SERVER, "--drain", "1s", "--drain", "2s")).config.drain == 2


def test_our_own_variable_beats_the_short_one(argotun):
    environ = {"SERVER_URL": "wss://short", "ARGOTUN_SERVER": "wss://own", "TOKEN": "t"}
    argv = ("--mode", "agent", "--ca-cert", "FILE", "--sa-token-path", "FILE")
    assert argotun(argv, environ).config.server.text == "wss://own/connect"


def test_clusters_may_be_json_in_the_environment(argotun):
    text = '[{"id": "a", "token": "t"}]'
    assert argotun(("--mode", "server"), {"CLUSTERS": f" {text}\n"}).config.clusters == text


@pytest.mark.parametrize(
    ("argv", "environ", "text", "access_log"),
    [
        (("--no-access-log",), {}, "", False),
        (("--access-log=off",), {}, "", False),
        (("--access-log",), {"ARGOTUN_ACCESS_LOG": "false"}, "", True),
        (("--no-access-log",), {"ARGOTUN_ACCESS_LOG": "true"}, "", False),
        ((), {"ARGOTUN_ACCESS_LOG": "0"}, "access-log: true", False),
        ((), {}, "access-log: no", False),
        ((), {}, "access-log: TRUE", True),
    ],
)
def test_a_switch_can_be_turned_either_way_everywhere(argotun, argv, environ, text, access_log):
    assert argotun((*SERVER, *argv), environ, text).config.access_log is access_log


def test_one_file_and_one_environment_can_serve_both_roles(argotun):
    text = "rate-limit: 5\nmax-conns: 7\ndrain: 3s\ntarget: not checked here\n"
    server = argotun(SERVER, {"ARGOTUN_MAX_RETRY": "not checked here"}, text)
    assert (server.config.rate_limit, server.config.drain) == (5, 3)
    text = "rate-limit: not checked here\nmax-conns: 7\ndrain: 3s\n"
    agent = argotun(AGENT, {"ARGOTUN_MAX_RETRY": "9s"}, text)
    assert (agent.config.max_conns, agent.config.max_retry, agent.config.drain) == (7, 9, 3)


def test_a_file_keeps_the_text_that_stands_in_it(argotun, file):
    text = "mode: agent\nserver: wss://h\ntoken: 0123_4\nca-cert: FILE\nsa-token-path: FILE\nmax-conns: 010\n"
    config = argotun((), config_file=text).config
    assert (config.token, config.max_conns) == ("0123_4", 10)


def test_a_byte_order_mark_and_an_empty_file_are_no_trouble(argotun):
    assert argotun(SERVER, config_file=b"\xef\xbb\xbfdrain: 3s\n").config.drain == 3
    assert argotun(SERVER, config_file=b"").config.drain == 20


def test_a_home_directory_is_found(argotun, monkeypatch, tmp_path, file):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert argotun((*SERVER, "--tls-cert", "~/some.pem", "--tls-key", "~/some.pem")).config.tls_cert == file


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("wss://h", "wss://h/connect"),
        ("wss://h/", "wss://h/connect"),
        ("wss://h:8443/x/y?z=1", "wss://h:8443/x/y?z=1"),
        ("WSS://[::1]:1", "wss://[::1]:1/connect"),
    ],
)
def test_a_server_without_a_path_means_connect(argotun, given, url):
    assert argotun((*AGENT, "--server", given)).config.server.text == url


@pytest.mark.parametrize(
    ("given", "url"),
    [("p:3128", "http://p:3128"), ("https://u:p@p/", "https://u:p@p"), ("http://[::1]:1", "http://[::1]:1")],
)
def test_a_proxy_may_leave_out_its_scheme(argotun, given, url):
    assert argotun((*AGENT, "--proxy", given)).config.proxy == parse_proxy(url)


@pytest.mark.parametrize(
    ("argv", "environ", "proxy", "origin"),
    [
        ((), {"HTTPS_PROXY": "http://u:p@p:1"}, "http://u:p@p:1", "HTTPS_PROXY"),
        ((), {"https_proxy": "p:1"}, "http://p:1", "https_proxy"),
        ((), {"HTTPS_PROXY": "", "https_proxy": "p:1"}, "http://p:1", "https_proxy"),
        ((), {"HTTPS_PROXY": "p:1", "NO_PROXY": ".example"}, None, "default"),
        ((), {"HTTPS_PROXY": "p:1", "NO_PROXY": ".other"}, "http://p:1", "HTTPS_PROXY"),
        ((), {"HTTPS_PROXY": "not used: no error", "NO_PROXY": "*"}, None, "default"),
        ((), {"HTTPS_PROXY": "p:1", "ARGOTUN_PROXY": "q:1"}, "http://q:1", "ARGOTUN_PROXY"),
        (("--proxy", "q:1"), {"HTTPS_PROXY": "p:1", "NO_PROXY": "*"}, "http://q:1", "flag"),
        (("--server", "ws://h", "--allow-insecure-server"), {"HTTPS_PROXY": "p:1"}, None, "default"),
    ],
)
def test_the_proxy_of_the_environment_counts_where_it_applies(argotun, argv, environ, proxy, origin):
    argv = (*AGENT, "--server", "wss://h.example", *argv)
    assert argotun(argv, environ).config.proxy == (proxy and parse_proxy(proxy))
    line = next(
        line for line in argotun((*argv, "--print-config")).out.splitlines() if line.startswith("proxy:")
    )
    assert line.endswith(f"# {origin}")


def in_a_pod(host, port="443"):
    return {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}


@pytest.mark.parametrize(
    ("argv", "environ", "address"),
    [
        ((), in_a_pod("10.96.0.1"), ("10.96.0.1", 443)),
        ((), in_a_pod("fd00::1", "6443"), ("fd00::1", 6443)),
        ((), in_a_pod("[fd00::1]"), ("fd00::1", 443)),
        ((), in_a_pod("c1-dns.hcp.example.net"), ("c1-dns.hcp.example.net", 443)),
        (("--target", "kubernetes.default.svc:443"), in_a_pod("10.96.0.1"), ("10.96.0.1", 443)),
        (("--target", "kubernetes.default.svc:6443"), in_a_pod("10.96.0.1"), None),
        (("--target", "api.example:443"), in_a_pod("10.96.0.1"), None),
        (("--target", "10.96.0.1:443"), in_a_pod("10.96.0.2"), None),
        ((), {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, None),
        ((), in_a_pod(""), None),
        ((), {}, None),
    ],
)
def test_the_platforms_address_stands_for_the_default_target(argotun, argv, environ, address):
    config = argotun((*AGENT[:6], "--ca-cert", "FILE", "--sa-token-path", "FILE", *argv), environ).config
    assert config.target_at == address
    assert config.target_host_name is None


def test_print_config_says_where_the_default_target_is_dialled(argotun):
    argv = (*AGENT[:6], "--ca-cert", "PEM", "--sa-token-path", "FILE", "--print-config")
    out = argotun(argv, in_a_pod("fd00::1")).out
    (line,) = [line for line in out.splitlines() if line.startswith("target:")]
    assert line.startswith("target: kubernetes.default.svc:443 ")
    assert line.endswith("# default, dialled at [fd00::1]:443 (from KUBERNETES_SERVICE_HOST)")


@pytest.mark.parametrize("environ", [in_a_pod("10.96.0.1", "tcp://10.96.0.1:443"), in_a_pod("not a host")])
def test_a_platforms_address_that_is_none_is_told_and_left(argotun, environ):
    outcome = argotun((*AGENT[:6], "--ca-cert", "PEM", "--sa-token-path", "FILE", "--print-config"), environ)
    assert outcome.code == 0
    (line,) = warnings_of(outcome)
    assert line.startswith("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT: ")
    assert line.endswith("kubernetes.default.svc:443 is dialled by its name")


# Warnings


def warnings_of(outcome):
    return [line.removeprefix("argotun: ") for line in outcome.err.splitlines()]


@pytest.mark.parametrize(
    ("argv", "environ", "warning"),
    [
        (
            (*SERVER, "--idle-timeout", "5m"),
            {},
            "--idle-timeout 5m is risky: clients reuse connections for up to 5m and would find them closed",
        ),
        (
            (*AGENT[:6], "--sa-token-path", "FILE", "--insecure"),
            {},
            "--insecure is for tests: anyone on the way to the API can read the ServiceAccount token",
        ),
        (
            (*AGENT, "--server", "ws://h", "--allow-insecure-server"),
            {},
            "--server ws://h/connect is for tests: anyone on the way to the server can read the token and "
            "every request",
        ),
        (
            SERVER[:4],
            {},
            "--internal-addr :8080 is plain HTTP without authentication on every address: whoever reaches it "
            "has the agents' rights; 127.0.0.1 keeps it on this machine, --internal-plain says that something"
            " else guards it",
        ),
        (SERVER, {"ARGOTUN_DRIAN": "5s"}, "ARGOTUN_DRIAN: no such option, ARGOTUN_DRAIN was probably meant"),
    ],
)
def test_what_is_allowed_but_unwise_is_a_warning(argotun, argv, environ, warning):
    outcome = argotun((*argv, "--print-config"), environ)
    assert (outcome.code, warnings_of(outcome)) == (0, [warning])


def test_what_kubernetes_injects_for_a_service_is_no_typo(argotun):
    environ = {
        "ARGOTUN_SERVER_PORT": "tcp://10.0.0.1:8443",
        "ARGOTUN_SERVER_SERVICE_HOST": "10.0.0.1",
        "ARGOTUN_SERVER_PORT_8443_TCP_ADDR": "10.0.0.1",
        "ARGOTUN_PORT": "tcp://10.0.0.1:8443",
    }
    assert warnings_of(argotun((*SERVER, "--print-config"), environ)) == []


# --print-config, --version, --help


def test_print_config_says_where_each_value_came_from(argotun, tmp_path):
    outcome = argotun((*SERVER, "--print-config"), {"ARGOTUN_DRAIN": "500ms"}, "keepalive: 2s\n")
    lines = [" ".join(line.split()) for line in outcome.out.splitlines()]
    assert lines[0] == "mode: server"
    assert "drain: 500ms # ARGOTUN_DRAIN" in lines
    assert f"keepalive: 2s # {tmp_path / 'argotun.yaml'}" in lines
    assert "addr: :8443 # default" in lines
    assert "tls-cert: # default" in lines
    assert lines.index("") == 1 + len(of_mode("server"))
    assert outcome.config is None


def test_what_print_config_prints_can_be_read_again(argotun):
    argv = (
        "--addr",
        "[::1]:1",
        "--drain",
        "1m30s",
        "--max-body",
        "1536Ki",
        "--rate-limit",
        "0.5",
        "--no-access-log",
    )
    first = argotun((*SERVER, *argv, "--print-config")).out.replace("clusters: (hidden)", "clusters: '[]'")
    assert argotun((), config_file=first).config == argotun((*SERVER, *argv)).config


def test_print_config_refuses_what_a_run_would_refuse(argotun):
    outcome = argotun((*SERVER, "--print-config", "--drain", "x"))
    assert (outcome.code, outcome.out) == (2, "")


def test_version_and_help_need_no_mode(argotun):
    assert (argotun(("--version",)).out, argotun(("--version",)).code) == (
        f"argotun {package.__version__}\n",
        0,
    )
    assert argotun(("--help",)).out == argotun(("-h", "--nonsense")).out == overview()
    assert argotun(("--help-all",)).out == help_text()


@pytest.mark.parametrize("mode", EVERY)
def test_the_help_of_a_mode_fits_on_a_screen_and_names_its_own_options(argotun, mode):
    text = argotun((mode, "--help")).out
    assert text == argotun(("--mode", mode, "-h")).out
    lines = text.splitlines()
    assert len(lines) <= 32
    assert max(map(len, lines)) <= 80
    own = {option.flag for option in of_mode(mode)}
    assert set(re.findall(r"^  (--[a-z-]+)", text, re.M)) <= own
    assert f"  argotun {mode} " in text


@pytest.mark.parametrize("mode", EVERY)
def test_the_example_of_a_mode_is_one_that_its_options_allow(argotun, mode):
    example = " ".join(EXAMPLES[mode]).replace("\\", "")
    words = [
        "FILE" if re.fullmatch(r"\S+\.(pem|key|json)|token|~/.kube/config", word) else word
        for word in example.split()[1:]
    ]
    words = ["[]" if words[at - 1] == "--clusters" else word for at, word in enumerate(words)]
    # Files that a pod has.
    outcome = argotun(words, {"ARGOTUN_CA_CERT": "FILE", "ARGOTUN_SA_TOKEN_PATH": "FILE"})
    assert (outcome.code, outcome.err) == (0, "")


def test_a_mode_as_the_first_word_says_what_mode_says(argotun):
    assert argotun((*SERVER[1:], "--drain", "3s")).config == argotun((*SERVER, "--drain", "3s")).config


def test_only_the_first_word_may_be_a_mode(argotun):
    outcome = argotun(("--drain", "3s", "server"))
    assert outcome.code == 2
    assert "expected --mode server" in outcome.err


def test_help_shows_every_option_with_its_modes_unit_and_default(monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    sections = {}
    for part in help_text().split("\n\n"):
        title, _, body = part.partition(":\n")
        sections[title] = " ".join(body.split())
    for modes, title in GROUPS.items():
        for option in (option for option in OPTIONS if option.modes == modes):
            notes = (
                f"[{option.kind.unit}; default {option.describe_default()}; {', '.join(option.environment)}]"
            )
            assert f"{option.flag} " in sections[title]
            assert notes in sections[title]


# Secrets


SECRET = "s3cr3t-value"
SECRETS = [
    ((*AGENT, "--token", SECRET, "--print-config"), {}),
    ((*AGENT, "--token", SECRET + " x"), {}),
    ((*AGENT, "--tokn", SECRET), {}),
    ((*AGENT, f"--tokn={SECRET}"), {}),
    ((*AGENT, SECRET), {}),
    ((*AGENT, "--token", "-" + SECRET), {}),
    ((*AGENT, f"-t{SECRET}"), {}),
    ((*AGENT, f"--version={SECRET}"), {}),
    ((*AGENT, "--proxy", f"http://user:{SECRET}@p:1", "--print-config"), {}),
    ((*AGENT, "--proxy", f"http://user:{SECRET}/@p:1", "--print-config"), {}),
    ((*AGENT, "--proxy", f"http://user:{SECRET}"), {}),
    ((*AGENT, "--server", f"wss://user:{SECRET}@h"), {}),
    (AGENT, {"HTTPS_PROXY": f"http://user:{SECRET}"}),
    ((*AGENT, "--print-config"), {"HTTPS_PROXY": f"http://user:{SECRET}@p"}),
    (AGENT[:2] + AGENT[4:], {"TOKEN": SECRET}),
    (("--mode", "server", "--token", SECRET), {"CLUSTERS": "[]"}),
    (("--mode", "server", "--print-config"), {"CLUSTERS": f'[{{"id": "a", "token": "{SECRET}"}}]'}),
    (("--mode", "server"), {"CLUSTERS": f'{{"id": "a", "token": "{SECRET}"}}'}),
    (("--mode", "server"), {"CLUSTERS": f"id: a\ntoken: {SECRET}"}),
]


@pytest.mark.parametrize(("argv", "environ"), SECRETS, ids=range(len(SECRETS)))
def test_no_message_shows_a_secret(argotun, argv, environ):
    outcome = argotun(argv, environ)
    assert outcome.out + outcome.err
    assert SECRET not in outcome.out + outcome.err


@pytest.mark.parametrize(
    "text",
    [
        f"tokn: {SECRET}\n",
        f"token: {SECRET}: x\n",
        f"token: *{SECRET}\n",
        f"token: [{SECRET}]\n",
        f"token: '{SECRET}\n",
    ],
)
def test_no_message_about_a_file_shows_a_secret(argotun, text):
    outcome = argotun(AGENT, config_file=text)
    assert outcome.code == 2
    assert SECRET not in outcome.err


def test_no_repr_of_a_config_shows_a_secret():
    shown = repr(AgentConfig(token=SECRET, proxy=parse_proxy(f"http://u:{SECRET}@p"))) + repr(
        ServerConfig(clusters=f"[{SECRET}]")
    )
    assert "target=" in shown
    assert SECRET not in shown


# The table itself


@pytest.mark.parametrize("mode", CONFIGS)
def test_every_field_has_its_option_and_every_option_its_field(mode):
    of_the_platform = {"target_at"}
    assert {field.name for field in dataclasses.fields(CONFIGS[mode])} - of_the_platform == {
        option.field for option in of_mode(mode)
    }


@pytest.mark.parametrize("mode", CONFIGS)
def test_a_default_written_out_is_read_back_the_same(mode):
    for option in of_mode(mode):
        default = option.default(mode)
        shown = option.show(default)
        if shown and option.kind.metavar != "FILE":
            assert option.kind.parse(shown) == default, option.name


def test_environment_names_are_unique():
    names = [name for option in (MODE, *OPTIONS) for name in option.environment]
    assert len(names) == len(set(names))


def test_every_option_is_in_a_group_that_is_shown():
    assert {option.modes for option in OPTIONS} == set(GROUPS)


def test_a_config_cannot_be_altered():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ServerConfig().drain = 1.0


@pytest.mark.parametrize(
    ("words", "url"),
    [
        (("http://10.0.0.1:8081",), "http://10.0.0.1:8081/status"),
        (("10.0.0.1:8081", "--log-level", "warn"), "http://10.0.0.1:8081/status"),
        (("https://a.example/x/status",), "https://a.example/x/status"),
        (("--status-url", "http://a.example"), "http://a.example/status"),
        ((), "http://127.0.0.1:8080/status"),
    ],
)
def test_the_second_word_of_status_is_its_url(argotun, words, url):
    assert argotun(("status", *words)).config.status_url == url
