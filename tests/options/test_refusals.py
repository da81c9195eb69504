"""Every wrong option ends the run before it begins: exit code 2 and one sentence of three parts."""

import json

import pytest

SERVER = ("--mode", "server", "--clusters", "[]")
AGENT = ("--mode", "agent", "--server", "wss://h/connect", "--token", "t0k", "--ca-cert", "FILE")
AGENT += ("--sa-token-path", "FILE")
NO_API_CA = ("--mode", "agent", "--server", "wss://h/connect", "--token", "t0k", "--sa-token-path", "FILE")
DEMO = ("--mode", "demo")
REPLICA = ("--registry", "redis://h", "--peer-cert", "FILE", "--peer-key", "FILE", "--peer-ca", "FILE")

DURATION = "a duration such as 500ms, 15s, 5m or 1h"
SIZE = "bytes, plainly or such as 64Ki, 32Mi or 1Gi"
LISTEN = "an address to listen on such as :8443, 127.0.0.1:0 or [::1]:443"
TARGET = "host:port such as kubernetes.default.svc:443"
SOCKETS = "an absolute path of at most 85 characters, without spaces, such as /run/argotun"
SEEDS = "host:port such as argotun-peers:8444"
REACHED = "host or host:port such as 10.0.3.7 or [fd00::7]:8444"
URL = "the server's URL such as wss://tunnel.example.com/connect"
TOKEN = "1 to 16384 visible ASCII characters without spaces"
PROXY = "http[s]://[user:password@]host[:port]"
RATE = "a number of requests per second such as 50 or 0.5, or 0 for no limit"
REDIS = "redis://[user[:password]@]host[:port][/db], rediss:// with TLS, unix:///path, "
REDIS += "redis+sentinel://host[:port],…/master[/db] or redis+cluster://host[:port],…"
MISSING = "a readable file (No such file or directory)"
LINES = "YAML, one `name: value` a line"

FLAGS = [
    # what runs at all
    (
        (),
        "--mode",
        None,
        "server, agent, demo, pki or status, or check server or check agent; --help tells what each does",
    ),
    (("--mode", "proxy"), "--mode", "'proxy'", "server, agent, demo, pki or status"),
    (("--mode", "Server"), "--mode", "'Server'", "server, agent, demo, pki or status"),
    (("--drain", "1s", "server"), "command line, argument 3", "'server'", "--mode server"),
    (
        (*SERVER, "stray"),
        "command line, argument 5",
        "(hidden)",
        "an option such as --mode server, or a mode as the first word",
    ),
    ((*SERVER, "--drian", "5s"), "command line", "'--drian'", "an option, such as --drain"),
    ((*SERVER, "-addr", ":1"), "command line", "'-addr'", "an option, such as --addr"),
    ((*SERVER, "--tls", "FILE"), "command line", "'--tls'", "an option, such as --tls-key"),
    ((*SERVER, "--zzzzzz"), "command line", "'--zzzzzz'", "an option as --help-all lists them"),
    ((*AGENT, "--token", "x" * 16385), "--token", "(hidden)", TOKEN),
    # durations
    ((*SERVER, "--drain", "5"), "--drain", "'5'", DURATION),
    ((*SERVER, "--drain=-5s"), "--drain", "'-5s'", DURATION),
    ((*SERVER, "--drain", "5 s"), "--drain", "'5 s'", DURATION),
    ((*SERVER, "--drain", "5d"), "--drain", "'5d'", DURATION),
    ((*SERVER, "--drain", "٥s"), "--drain", "'٥s'", DURATION),
    ((*SERVER, "--drain", "721h"), "--drain", "'721h'", "a duration of at most 720h"),
    ((*SERVER, "--drain="), "--drain", "''", DURATION),
    ((*SERVER, "--head-timeout", "0"), "--head-timeout", "'0'", f"{DURATION}, at least 100ms"),
    (
        (*SERVER, "--response-timeout", "1ms"),
        "--response-timeout",
        "'1ms'",
        f"{DURATION}, at least 100ms, or 0 for no limit",
    ),
    ((*AGENT, "--max-retry", "1e3s"), "--max-retry", "'1e3s'", f"{DURATION}, at least 100ms"),
    # numbers and sizes
    ((*SERVER, "--rate-limit", "nan"), "--rate-limit", "'nan'", RATE),
    ((*SERVER, "--rate-limit", "1e9"), "--rate-limit", "'1e9'", RATE),
    ((*SERVER, "--rate-limit=-1"), "--rate-limit", "'-1'", RATE),
    ((*SERVER, "--max-body", "32M"), "--max-body", "'32M'", f"{SIZE}, at least 1, or 0 for no limit"),
    ((*SERVER, "--max-body", "1.5Mi"), "--max-body", "'1.5Mi'", f"{SIZE}, at least 1, or 0 for no limit"),
    ((*SERVER, "--tunnel-buffer", "1Ki"), "--tunnel-buffer", "'1Ki'", f"{SIZE}, at least 1Mi"),
    ((*AGENT, "--max-conns", "0"), "--max-conns", "'0'", "a whole number of streams from 1 to 1000000"),
    ((*AGENT, "--max-conns", "1k"), "--max-conns", "'1k'", "a whole number of streams from 1 to 1000000"),
    # addresses
    ((*SERVER, "--addr", "8443"), "--addr", "'8443'", LISTEN),
    ((*SERVER, "--addr", ":65536"), "--addr", "':65536'", LISTEN),
    ((*SERVER, "--addr", "::1:8443"), "--addr", "'::1:8443'", LISTEN),
    ((*SERVER, "--addr", "[::g]:8443"), "--addr", "'[::g]:8443'", LISTEN),
    ((*SERVER, "--addr", "http://h:80"), "--addr", "'http://h:80'", LISTEN),
    ((*SERVER, "--addr", "off"), "--addr", "'off'", LISTEN),
    ((*SERVER, "--health-addr", "none"), "--health-addr", "'none'", f"{LISTEN}, or off"),
    ((*AGENT, "--target", ":443"), "--target", "':443'", TARGET),
    ((*SERVER, *REPLICA, "--advertise", ":8444"), "--advertise", "':8444'", REACHED),
    ((*SERVER, *REPLICA, "--advertise", "fd00::7]:8444"), "--advertise", "'fd00::7]:8444'", REACHED),
    ((*SERVER, *REPLICA, "--advertise", "10.0.3.7:0"), "--advertise", "'10.0.3.7:0'", REACHED),
    ((*SERVER, *REPLICA, "--peer-sockets", "run"), "--peer-sockets", "'run'", SOCKETS),
    ((*SERVER, *REPLICA, "--peer-sockets", "/run/x y"), "--peer-sockets", "'/run/x y'", SOCKETS),
    ((*SERVER, *REPLICA, "--peer-sockets", "/" * 86), "--peer-sockets", repr("/" * 86), SOCKETS),
    ((*SERVER, *REPLICA, "--peer-seeds", "argotun-peers"), "--peer-seeds", "'argotun-peers'", SEEDS),
    ((*SERVER, *REPLICA, "--peer-seeds", ":8444"), "--peer-seeds", "':8444'", SEEDS),
    ((*AGENT, "--target", "kubernetes"), "--target", "'kubernetes'", TARGET),
    ((*AGENT, "--target", "h:0"), "--target", "'h:0'", TARGET),
    ((*AGENT, "--target", "https://h:443"), "--target", "'https://h:443'", TARGET),
    ((*AGENT, "--target", "a..b:1"), "--target", "'a..b:1'", TARGET),
    (
        (*AGENT, "--target-host-name", "h:443"),
        "--target-host-name",
        "'h:443'",
        "a DNS name or an IP address without a port",
    ),
    # URLs
    (
        (*AGENT, "--server", "https://h/connect"),
        "--server",
        "'https://h/connect'",
        f"{URL}, with wss:// in place of https://",
    ),
    ((*AGENT, "--server", "HTTP://h"), "--server", "'HTTP://h'", f"{URL}, with ws:// in place of http://"),
    ((*AGENT, "--server", "h:8443"), "--server", "'h:8443'", f"{URL}, with wss:// before the host"),
    ((*AGENT, "--server", "u:p@h"), "--server", "(hidden)", f"{URL}, without user or password"),
    ((*AGENT, "--server", "wss://"), "--server", "'wss://'", f"{URL}, without user or password"),
    (
        (*AGENT, "--server", "wss://h:99999/"),
        "--server",
        "'wss://h:99999/'",
        f"{URL}, without user or password",
    ),
    (
        (*AGENT, "--server", "wss://h/a\r\nb"),
        "--server",
        "'wss://h/a\\r\\nb'",
        f"{URL}, without user or password",
    ),
    ((*AGENT, "--server", "wss://u:p@h/"), "--server", "(hidden)", f"{URL}, without user or password"),
    ((*AGENT, "--proxy", "socks5://h:1"), "--proxy", "(hidden)", PROXY),
    ((*AGENT, "--proxy", "http://h:1/path"), "--proxy", "(hidden)", PROXY),
    ((*SERVER, "--registry", "http://h"), "--registry", "'http://h'", REDIS),
    ((*SERVER, "--registry", "redis://"), "--registry", "'redis://'", REDIS),
    ((*SERVER, "--registry", "redis://h/x"), "--registry", "'redis://h/x'", REDIS),
    ((*SERVER, "--registry", "redis://a,b"), "--registry", "'redis://a,b'", REDIS),
    ((*SERVER, "--registry", "redis://h:0"), "--registry", "'redis://h:0'", REDIS),
    ((*SERVER, "--registry", "redis://h?db=1"), "--registry", "'redis://h?db=1'", REDIS),
    ((*SERVER, "--registry", "redis+sentinel://h"), "--registry", "'redis+sentinel://h'", REDIS),
    ((*SERVER, "--registry", "redis+cluster://h/1"), "--registry", "'redis+cluster://h/1'", REDIS),
    ((*SERVER, "--registry", "unix://s"), "--registry", "'unix://s'", REDIS),
    ((*SERVER, "--registry", "redis://:s3cr3t@h/x"), "--registry", "(hidden)", REDIS),
    (
        (*SERVER, "--registry-prefix", "a{b}"),
        "--registry-prefix",
        "'a{b}'",
        "1 to 64 letters, digits, dots, colons, dashes and underscores",
    ),
    # files
    ((*SERVER, "--tls-cert", "/no/such"), "--tls-cert", "'/no/such'", MISSING),
    ((*SERVER, "--tls-cert", "/"), "--tls-cert", "'/'", "a readable file, and this is not a regular file"),
    (
        (*SERVER, "--tls-cert", "/dev/null"),
        "--tls-cert",
        "'/dev/null'",
        "a readable file, and this is not a regular file",
    ),
    (("--mode", "server", "--clusters", "/no/such"), "--clusters", "'/no/such'", MISSING),
    (("--mode", "server", "--clusters", '{"id": "a"}'), "--clusters", "(hidden)", MISSING),
    ((*AGENT, "--token-file", "/no/such"), "--token-file", "'/no/such'", MISSING),
    ((*DEMO, "--kubeconfig", "/no/such"), "--kubeconfig", "'/no/such'", MISSING),
    # tokens
    ((*AGENT, "--token", "a b"), "--token", "(hidden)", TOKEN),
    ((*AGENT, "--token", "a\r\nX-Evil: 1"), "--token", "(hidden)", TOKEN),
    # what belongs together, and what excludes each other
    # words
    ((*SERVER, "--log-level", "trace"), "--log-level", "'trace'", "debug, info, warn or error"),
    ((*SERVER, "--log-format", "xml"), "--log-format", "'xml'", "text or json"),
    ((*SERVER, "--access-log=maybe"), "--access-log", "'maybe'", "true or false"),
    (
        (*DEMO, "--kubeconfig", "FILE", "--context", "a\nb"),
        "--context",
        "'a\\nb'",
        "a name without control characters",
    ),
    ((*SERVER, "--addr", "x" * 200), "--addr", f"'{'x' * 120}…'", LISTEN),
]


def sentence(option, value, expected):
    if value is None:
        return f"argotun: {option} is not set: expected {expected}\n"
    return f"argotun: {option}: {value} is not valid: expected {expected}\n"


def short(value):
    return " ".join(value)[-60:].replace("\r", "␍").replace("\n", "␊") if isinstance(value, tuple) else ""


@pytest.mark.parametrize(("argv", "option", "value", "expected"), FLAGS, ids=short)
def test_a_wrong_flag_is_one_sentence(argotun, file, argv, option, value, expected):
    outcome = argotun(argv)
    assert outcome.err == sentence(option, value and value.replace("FILE", file), expected)
    assert (outcome.code, outcome.out, outcome.config) == (2, "", None)


TOGETHER = [
    (
        (*SERVER, "--internal-addr", ":8443"),
        "--internal-addr ':8443' is the place of --addr: expected another address",
    ),
    (
        (*SERVER, "--internal-addr", "127.0.0.1:8443"),
        "--internal-addr '127.0.0.1:8443' is the place of --addr: expected another address",
    ),
    (
        (*SERVER, "--health-addr", ":8080"),
        "--health-addr ':8080' is the place of --addr or --internal-addr: expected another address",
    ),
    (
        (*AGENT, "--server", "ws://h/"),
        "--server 'ws://h/' has no TLS: expected a wss:// URL, or --allow-insecure-server for a test",
    ),
    # flags without a value, and one with
    (("--mode",), "--mode has no value: expected --mode=VALUE, server, agent, demo, pki or status"),
    (("--config",), "--config has no value: expected --config=VALUE, a YAML file of options"),
    ((*SERVER, "--drain", "-later"), f"--drain has no value: expected --drain=VALUE, {DURATION}"),
    ((*AGENT, "--target", "-x.y:1"), f"--target has no value: expected --target=VALUE, {TARGET}"),
    ((*SERVER, "--no-access-log=true"), "--no-access-log has a value: expected none"),
    ((*SERVER, "--print-config=x"), "--print-config has a value: expected none"),
    # options of another mode
    ((*SERVER, "--target", "h:1"), "--target 'h:1' is for --mode agent: expected an option of --mode server"),
    (
        (*AGENT, "--clusters", "[]"),
        "--clusters (hidden) is for --mode server: expected an option of --mode agent",
    ),
    (
        (*DEMO, "--drain", "1s"),
        "--drain '1s' is for --mode server or --mode agent: expected an option of --mode demo",
    ),
    # between options
    (("--mode", "server"), "--clusters is not set: expected a clusters file or its JSON text"),
    (
        NO_API_CA,
        "--ca-cert '/var/run/secrets/kubernetes.io/serviceaccount/ca.crt' cannot be read: outside a cluster "
        "say where it is, or use --insecure",
    ),
    (
        ("--mode", "agent", "--server", "wss://h", "--token", "t", "--insecure"),
        "--sa-token-path '/var/run/secrets/kubernetes.io/serviceaccount/token' cannot be read: outside a "
        "cluster say where it is",
    ),
    (AGENT[:4] + AGENT[6:], "--token is not set: expected a token, --token-file, or --server-token-path"),
    ((*AGENT, "--token-file", "FILE"), "--token-file and --token exclude each other"),
    (AGENT[:2] + AGENT[4:], "--server is not set: expected the server's URL such as wss://host/connect"),
    ((*SERVER, "--tls-cert", "FILE"), "--tls-cert needs --tls-key"),
    ((*SERVER, "--tls-key", "FILE"), "--tls-key needs --tls-cert"),
    ((*SERVER, "--tls-client-ca", "FILE"), "--tls-client-ca needs --tls-cert and --tls-key"),
    ((*SERVER, "--registry-password-file", "FILE"), "--registry-password-file needs --registry"),
    (
        (*SERVER, "--registry", "redis://:x@h", "--registry-password-file", "FILE"),
        "--registry-password-file and a password in --registry exclude each other",
    ),
    (
        (*SERVER, "--registry", "redis://h", "--registry-sentinel-password-file", "FILE"),
        "--registry-sentinel-password-file needs a --registry that is redis+sentinel://",
    ),
    (
        (*SERVER, "--registry", "redis://h", "--registry-ca-cert", "FILE"),
        "--registry-ca-cert needs a --registry with TLS: rediss://, rediss+sentinel:// or rediss+cluster://",
    ),
    (
        (*SERVER, "--registry", "rediss://h", "--registry-client-cert", "FILE"),
        "--registry-client-cert needs --registry-client-key",
    ),
    ((*SERVER, "--peer-cert", "FILE"), "--peer-cert needs --registry"),
    ((*SERVER, "--advertise", "192.0.2.1:1"), "--advertise needs --registry"),
    ((*SERVER, "--reuse-port"), "--reuse-port needs --registry"),
    ((*SERVER, "--peer-sockets", "/run/argotun"), "--peer-sockets needs --registry"),
    (
        (*SERVER, *REPLICA, "--peer-sockets", "/run/argotun", "--advertise", "192.0.2.1:1"),
        "--peer-sockets and --advertise exclude each other",
    ),
    ((*SERVER, "--peer-seeds", "argotun-peers:8444"), "--peer-seeds needs --registry"),
    (
        (*SERVER, *REPLICA, "--peer-sockets", "/run/argotun", "--peer-seeds", "argotun-peers:8444"),
        "--peer-seeds is of no use with --peer-sockets: nobody listens at a port for other replicas",
    ),
    (
        (*SERVER, *REPLICA, "--reuse-port", "--internal-addr", ":0"),
        "--reuse-port needs ports that others know: expected no 0 in --addr and --internal-addr",
    ),
    (
        (*SERVER, "--registry", "redis://h"),
        "--peer-cert is not set: with --registry, replicas show each other certificates",
    ),
    (
        (*SERVER, *REPLICA[:-2]),
        "--peer-ca is not set: with --registry, replicas show each other certificates",
    ),
    (
        (*SERVER, *REPLICA, "--peer-addr", ":8443"),
        "--peer-addr ':8443' is the place of --addr, --internal-addr or --health-addr: "
        "expected another address",
    ),
    (
        (*SERVER, *REPLICA, "--peer-keepalive", "5s"),
        "--peer-keepalive '5s' is too long: expected less than --peer-keepalive-timeout",
    ),
    ((*AGENT, "--client-cert", "FILE"), "--client-cert needs --client-key"),
    ((*AGENT, "--client-key", "FILE"), "--client-key needs --client-cert"),
    ((*AGENT, "--target-client-cert", "FILE"), "--target-client-cert needs --target-client-key"),
    ((*AGENT, "--target-client-key", "FILE"), "--target-client-key needs --target-client-cert"),
    (
        (*NO_API_CA, "--plain-target", "--target-client-cert", "FILE", "--target-client-key", "FILE"),
        "--plain-target and --target-client-cert exclude each other",
    ),
    (
        (*AGENT, "--sa-token-path", "off"),
        "--sa-token-path 'off' leaves the agent without a credential: expected a file, "
        "or --target-client-cert",
    ),
    ((*AGENT, "--insecure"), "--ca-cert and --insecure exclude each other"),
    ((*AGENT, "--plain-target"), "--ca-cert and --plain-target exclude each other"),
    ((*NO_API_CA, "--plain-target", "--insecure"), "--plain-target and --insecure exclude each other"),
    (
        (
            *AGENT,
            "--server",
            "ws://h/",
            "--allow-insecure-server",
            "--client-cert",
            "FILE",
            "--client-key",
            "FILE",
        ),
        "--client-cert needs a wss:// server: ws:// shows no certificate",
    ),
    (
        (*AGENT, "--server", "ws://h/", "--allow-insecure-server", "--server-ca-cert", "FILE"),
        "--server-ca-cert needs a wss:// server: ws:// verifies nothing",
    ),
    (
        (*SERVER, "--keepalive", "45s"),
        "--keepalive '45s' is too long: expected less than --keepalive-timeout",
    ),
    (
        (*AGENT, "--keepalive-timeout", "15s"),
        "--keepalive '15s' is too long: expected less than --keepalive-timeout",
    ),
    ((*DEMO, "--context", "c"), "--context needs --kubeconfig"),
]


@pytest.mark.parametrize(("argv", "words"), TOGETHER, ids=short)
def test_options_that_do_not_go_together_are_one_sentence(argotun, file, argv, words):
    outcome = argotun(argv)
    assert outcome.err == f"argotun: {words.replace('FILE', file)}\n"
    assert (outcome.code, outcome.out, outcome.config) == (2, "", None)


ENVIRONMENT = [
    ({"ARGOTUN_MODE": "x"}, "--mode (from ARGOTUN_MODE)", "'x'", "server, agent, demo, pki or status"),
    ({"ARGOTUN_MODE": "server", "CLUSTERS": "/no"}, "--clusters (from CLUSTERS)", "'/no'", MISSING),
    (
        {"ARGOTUN_MODE": "agent", "SERVER_URL": "http://h"},
        "--server (from SERVER_URL)",
        "'http://h'",
        f"{URL}, with ws:// in place of http://",
    ),
    ({"ARGOTUN_MODE": "agent", "TOKEN": "a b"}, "--token (from TOKEN)", "(hidden)", TOKEN),
    (
        {"ARGOTUN_MODE": "demo", "ARGOTUN_DEMO_ONCE": "[x]"},
        "--demo-once (from ARGOTUN_DEMO_ONCE)",
        "\"['x']\"",
        "true or false",
    ),
    (
        {"ARGOTUN_MODE": "demo", "ARGOTUN_DEMO_ONCE": "2"},
        "--demo-once (from ARGOTUN_DEMO_ONCE)",
        "'2'",
        "true or false",
    ),
    (
        {"ARGOTUN_MODE": "agent", "ARGOTUN_SERVER": "wss://h", "HTTPS_PROXY": "ftp://p"},
        "--proxy (from HTTPS_PROXY)",
        "(hidden)",
        PROXY,
    ),
    (
        {"ARGOTUN_MODE": "demo", "ARGOTUN_CONFIG": "/no"},
        "--config",
        "'/no'",
        "a readable YAML file (No such file or directory)",
    ),
]


@pytest.mark.parametrize(("environ", "option", "value", "expected"), ENVIRONMENT)
def test_a_wrong_variable_is_named(argotun, environ, option, value, expected):
    outcome = argotun((), environ)
    assert outcome.err == sentence(option, value, expected)
    assert (outcome.code, outcome.config) == (2, None)


FILES = [
    ("drian: 5s\n", "CONFIG, line 1", "'drian'", "an option's name, such as drain"),
    ("mode: demo\ntls_cert: x\n", "CONFIG, line 2", "'tls_cert'", "an option's name, such as tls-cert"),
    ("--mode: demo\n", "CONFIG, line 1", "'--mode'", "an option's name, such as mode"),
    ("12345: x\n", "CONFIG, line 1", "'12345'", "an option's name, as --help-all lists them"),
    ("drain: 1s\ndrain: 2s\n", "CONFIG, line 2", "'drain'", "each option once"),
    ("clusters:\n  - id: a\n", "CONFIG, line 1, clusters", "a list or mapping", "a single value"),
    ("drain: {s: 5}\n", "CONFIG, line 1, drain", "a list or mapping", "a single value"),
    (
        "? [a]\n: 5\n",
        "CONFIG, line 1",
        "a list or mapping as key",
        "an option's name, as --help-all lists them",
    ),
    ("- mode\n", "--config", "'CONFIG'", "a YAML file, one `name: value` a line"),
    ("mode\n", "--config", "'CONFIG'", "a YAML file, one `name: value` a line"),
    ("mode: demo\naddr: [::1]:443\n", "CONFIG, line 2, column 8", "(hidden)", LINES),
    ("mode: 'demo\n", "CONFIG, line 2, column 1", "(hidden)", LINES),
    ("token: *s3cr3t\n", "CONFIG, line 1, column 8", "(hidden)", LINES),
    ("a: 1\n---\nb: 2\n", "CONFIG, line 2, column 1", "(hidden)", LINES),
    (b"mode: \xff\n", "--config", "'CONFIG'", "a YAML file in UTF-8"),
    (b"mode: \x00\n", "--config", "'CONFIG'", "a YAML file, one `name: value` a line"),
    ("[" * 20_000, "--config", "'CONFIG'", "a YAML file, one `name: value` a line"),
    ("mode: demo\nlog-level: loud\n", "--log-level (from CONFIG)", "'loud'", "debug, info, warn or error"),
]


@pytest.mark.parametrize(("text", "option", "value", "expected"), FILES, ids=range(len(FILES)))
def test_a_wrong_file_is_one_sentence_with_its_place(argotun, tmp_path, text, option, value, expected):
    outcome = argotun((), config_file=text)
    wanted = sentence(option, value, expected).replace("CONFIG", str(tmp_path / "argotun.yaml"))
    assert outcome.err == wanted
    assert (outcome.code, outcome.config) == (2, None)


def test_a_file_out_of_all_proportion_is_refused(argotun, tmp_path):
    outcome = argotun((), config_file="# " + "x" * (5 << 20))
    assert outcome.err == sentence(
        "--config", f"'{tmp_path / 'argotun.yaml'}'", "a file of at most 4194304 bytes"
    )


def test_a_directory_is_no_configuration_file(argotun, tmp_path):
    outcome = argotun(("--config", "DIR"))
    assert outcome.err == sentence("--config", f"'{tmp_path}'", "a readable YAML file (Is a directory)")


@pytest.mark.parametrize(
    ("argv", "environ"),
    [
        (("--mode", "server", "--clusters", "/no", "--log-format", "json"), {}),
        (("--mode", "server", "--clusters", "/no", "--log-format=json"), {}),
        (("--mode", "server", "--clusters", "/no"), {"ARGOTUN_LOG_FORMAT": "json"}),
        (("--mode", "server", "--cluster", "/no", "--log-format", "json"), {}),
        (("--mode", "server", "--cluster", "/no"), {"ARGOTUN_LOG_FORMAT": "json"}),
    ],
)
def test_where_the_log_is_json_so_is_an_error(argotun, argv, environ):
    done = argotun(argv, environ)
    said = json.loads(done.err)
    assert (done.code, done.out) == (2, "")
    assert list(said) == ["ts", "level", "logger", "msg"]
    assert said["level"] == "error"
    assert "--cluster" in said["msg"]


def test_a_config_file_too_may_ask_for_json(argotun):
    done = argotun(["--mode", "server"], config_file="log-format: json\nclusters: /no\n")
    assert "'/no' is not valid" in json.loads(done.err)["msg"]
