"""What kubectl does beyond requests, through the tunnel to a real process in a pod of the customer's."""

import pytest

from tests.nodes.client import Client

TUNNEL = "kubectl --kubeconfig=/tmp/kubeconfig"
SIZE = 20_000_000


@pytest.fixture(scope="module", autouse=True)
def ready(client: Client, worker: str) -> None:
    """Both pods."""


def script(client: Client, text: str) -> str:
    """What a script in the client's pod prints."""
    return client.run("sh", "-euc", text)


def test_exec_brings_both_outputs_and_the_exit_code(client: Client) -> None:
    said = script(
        client,
        f"""
        code=0
        {TUNNEL} exec worker -- sh -c 'echo out; echo err >&2; exit 7' > /tmp/out 2> /tmp/err || code=$?
        cat /tmp/out; head -n 1 /tmp/err; echo $code
        """,
    )
    assert said.splitlines() == ["out", "err", "7"]


def test_exec_brings_its_input(client: Client) -> None:
    said = script(client, f"printf abc | {TUNNEL} exec -i worker -- sha256sum")
    assert said.split()[0] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_file_comes_back_as_it_was_copied(client: Client) -> None:
    script(
        client,
        f"""
        head -c {SIZE} /dev/urandom > /tmp/sent
        {TUNNEL} cp /tmp/sent worker:/tmp/there
        {TUNNEL} cp worker:/tmp/there /tmp/back
        cmp /tmp/sent /tmp/back
        """,
    )


def test_attach_and_the_followed_log_hear_the_same(client: Client) -> None:
    said = script(
        client,
        f"""
        {TUNNEL} logs -f --tail=0 worker > /tmp/log &
        followed=$!
        i=0
        until grep -q 'heard two' /tmp/log; do
          i=$((i + 1)); test $i -lt 60
          printf 'one\\ntwo\\n' | timeout 20 {TUNNEL} attach -i worker > /tmp/attached 2>/dev/null || true
          sleep 0.5
        done
        kill $followed
        grep -c 'heard one' /tmp/log
        """,
    )
    assert int(said) >= 1


def test_port_forward_reaches_a_process(client: Client) -> None:
    said = script(
        client,
        f"""
        {TUNNEL} port-forward pod/worker 9000:8000 > /tmp/forwarded 2>&1 &
        forward=$!
        i=0
        until grep -q Forwarding /tmp/forwarded; do i=$((i + 1)); test $i -lt 300; sleep 0.1; done
        python3 - <<'END'
import urllib.request
for number in range(5):
    print(len(urllib.request.urlopen(f"http://127.0.0.1:9000/{SIZE}", timeout=60).read()))
END
        kill $forward
        """,
    )
    assert said.split() == [str(SIZE + len(f"/{SIZE}"))] * 5
