"""A request as kube-apiserver sees it: its own table, attackers' spellings, and random targets."""

import contextlib
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argotun.policy.requestinfo import NotCanonical, RequestInfo, impersonations, request_info

# METHOD target → verb group version namespace resource subresource name; `–` is nothing.
# The first part is kube-apiserver's own table (requestinfo_test.go), without what it cleans away.
RESOURCES = """
GET    /api/v1/namespaces                              list   – v1 –     namespaces – –
GET    /api/v1/namespaces/other                        get    – v1 other namespaces – other
GET    /api/v1/namespaces/other/pods                   list   – v1 other pods – –
GET    /api/v1/namespaces/other/pods/foo               get    – v1 other pods – foo
HEAD   /api/v1/namespaces/other/pods/foo               get    – v1 other pods – foo
GET    /api/v1/pods                                    list   – v1 –     pods – –
HEAD   /api/v1/pods                                    list   – v1 –     pods – –
GET    /api/v1/proxy/namespaces/other/pods/foo         proxy  – v1 other pods – foo
GET    /api/v1/proxy/namespaces/other/pods/foo/sub/x   proxy  – v1 other pods – foo
GET    /api/v1/proxy/nodes/n1/run/x                    proxy  – v1 –     nodes – n1
GET    /api/v1/watch/pods                              watch  – v1 –     pods – –
GET    /api/v1/pods?watch=true                         watch  – v1 –     pods – –
GET    /api/v1/pods?watch=false                        list   – v1 –     pods – –
GET    /api/v1/watch/namespaces/other/pods             watch  – v1 other pods – –
GET    /api/v1/watch/namespaces/other/pods/foo         watch  – v1 other pods – foo
GET    /api/v1/namespaces/other/pods?watch=1           watch  – v1 other pods – –
GET    /api/v1/namespaces/other/pods?watch=0           list   – v1 other pods – –
GET    /api/v1/namespaces/other/pods/foo/status        get    – v1 other pods status foo
GET    /api/v1/namespaces/other/pods/foo/proxy/sub/x   get    – v1 other pods proxy foo
PUT    /api/v1/namespaces/other/finalize               update – v1 other namespaces finalize other
PUT    /api/v1/namespaces/other/status                 update – v1 other namespaces status other
POST   /api/v1/namespaces/other/pods                   create – v1 other pods – –
PUT    /api/v1/namespaces/other/pods/foo               update – v1 other pods – foo
PATCH  /api/v1/namespaces/other/pods/foo               patch  – v1 other pods – foo
DELETE /api/v1/namespaces/other/pods/foo               delete – v1 other pods – foo
DELETE /api/v1/nodes                                   deletecollection – v1 – nodes – –
DELETE /api/v1/namespaces                              deletecollection – v1 – namespaces – –
DELETE /api/v1/namespaces/other/pods                   deletecollection – v1 other pods – –
DELETE /apis/extensions/v1/namespaces/other/pods       deletecollection extensions v1 other pods – –
POST   /apis/extensions/v3/namespaces/other/pods       create extensions v3 other pods – –
GET    /apis/g/v/watch/namespaces/other/bars           watch  g v other bars – –
GET    /apis/g/v/namespaces/x/bars/y/sub/extra/more    get    g v x bars sub y
POST   /api/v1/namespaces/x/pods/y/exec?command=sh     create – v1 x pods exec y
GET    /api/v1/namespaces/x/pods/y/exec?command=sh     get    – v1 x pods exec y
GET    /api/v1/nodes/n1/proxy/run/ns/pod/c             get    – v1 – nodes proxy n1
GET    /api/v1/nodes/n1/proxy/                         get    – v1 – nodes proxy n1
POST   /api/v1/namespaces/x/serviceaccounts/sa/token   create – v1 x serviceaccounts token sa
GET    /api/v1/namespaces/namespaces/pods              list   – v1 namespaces pods – –
GET    /api/v1/namespaces/status/pods                  list   – v1 status pods – –
GET    /api/v1/namespaces/x/namespaces                 list   – v1 x namespaces – –
GET    /api/v1/namespaces/x/status/exec                get    – v1 x namespaces status x
GET    /api/v2/secrets                                 list   – v2 – secrets – –
OPTIONS /api/v1/pods                                   ?      – v1 – pods – –
get    /api/v1/pods                                    ?      – v1 – pods – –
PROPFIND /api/v1/watch/pods                            watch  – v1 – pods – –
GET    /api/v1/pods/foo?watch=1                        get    – v1 – pods – foo
POST   /api/v1/pods?watch=1                            create – v1 – pods – –
GET    /api/v1/pods?watch                              watch  – v1 – pods – –
GET    /api/v1/pods?watch=                             watch  – v1 – pods – –
GET    /api/v1/pods?watch=no                           watch  – v1 – pods – –
GET    /api/v1/pods?watch=FALSE                        list   – v1 – pods – –
GET    /api/v1/pods?watch=fals%65                      list   – v1 – pods – –
GET    /api/v1/pods?w%61tch=1                          watch  – v1 – pods – –
GET    /api/v1/pods?Watch=1                            list   – v1 – pods – –
GET    /api/v1/pods?limit=1&&watch=1&                  watch  – v1 – pods – –
GET    /api/v1/pods?x=?watch=1                         list   – v1 – pods – –
GET    /api/v1/secrets?fieldSelector=metadata.name%3Da list   – v1 – secrets – a
GET    /api/v1/secrets?fieldSelector=metadata.name==a  list   – v1 – secrets – a
GET    /api/v1/secrets?fieldSelector=a=b,metadata.name=c&watch=1  watch – v1 – secrets – c
GET    /api/v1/secrets?fieldSelector=metadata.name!=a  list   – v1 – secrets – –
GET    /api/v1/secrets?fieldSelector=metadata.name=a,nonsense  list – v1 – secrets – –
GET    /api/v1/secrets?fieldSelector=metadata.name=a%5C,b  list – v1 – secrets – –
GET    /api/v1/secrets?fieldSelector=metadata.name=a=b  list  – v1 – secrets – –
GET    /api/v1/secrets?fieldSelector=metadata.name=..  list   – v1 – secrets – –
GET    /api/v1/secrets?fieldSelector=metadata.name=a/b  list  – v1 – secrets – –
GET    /api/v1/secrets?fieldSelector=metadata.namespace=a  list – v1 – secrets – –
GET    /api/v1/secrets?fieldSelector=                  list   – v1 – secrets – –
GET    /api/v1/secrets?fieldSelector=metadata.name=a&limit=9  list – v1 – secrets – a
GET    /api/v1/secrets?limit=x&fieldSelector=metadata.name=a  list – v1 – secrets – –
GET    /api/v1/secrets?fieldSelector=metadata.name=a&timeoutSeconds=-  list – v1 – secrets – –
GET    /api/v1/secrets?fieldSelector=metadata.name=a&labelSelector=!!  list – v1 – secrets – –
GET    /api/v1/watch/secrets?fieldSelector=metadata.name=a  watch – v1 – secrets – –
DELETE /api/v1/secrets?fieldSelector=metadata.name=a   deletecollection – v1 – secrets – –
GET    /apis/rbac/v1/clusterroles/system:node          get    rbac v1 – clusterroles – system:node
GET    /apis/rbac/v1/clusterroles/system%3Anode        get    rbac v1 – clusterroles – system:node
GET    /api/watch/x?watch=1                            watch  – watch – x – –
GET    /apis/apps/v1/..pods                            list   apps v1 – ..pods – –
GET    /apis/g/v/things/%C3%A9                         get    g v – things – é
"""

PATHS = """
GET    /                      get
GET    /api                   get
GET    /api/v1                get
POST   /api/v1                post
GET    /apis                  get
GET    /apis/                 get
GET    /version/              get
GET    /apis/apps/v1/         get
GET    /apis/apps             get
GET    /apis/apps/v1          get
GET    /apis/apps/watch       get
GET    /API/v1/pods           get
GET    /openapi/v3/apis/apps/v1?hash=A  get
GET    /metrics               get
HEAD   /metrics               head
OPTIONS /version              options
BREW   /version               brew
GET    /logs/kube-apiserver.log  get
"""


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.strip().splitlines()]


@pytest.mark.parametrize("row", rows(RESOURCES), ids=" ".join)
def test_a_resource_is_read_as_kube_apiserver_reads_it(row: list[str]) -> None:
    method, target, *expected = row
    info = request_info(method.encode(), target.encode())
    verb, group, version, namespace, resource, subresource, name = ("" if e in "–?" else e for e in expected)
    assert info.resource_request
    assert info[2:9] == (verb, group, version, namespace, resource, subresource, name)


@pytest.mark.parametrize("row", rows(PATHS), ids=" ".join)
def test_any_other_path_has_the_method_as_its_verb(row: list[str]) -> None:
    method, target, verb = row
    assert request_info(method.encode(), target.encode()) == RequestInfo(False, target.split("?")[0], verb)


HOSTILE = r"""
/api/v1//pods                                     (//)
//api/v1/pods                                     (//)
/api/v1/pods//                                    (//)
/api/v1/namespaces//pods                          (//)
/apis//v1/pods                                    (//)
/api/v1/namespaces/x/../y/pods                    . or ..
/api/v1/namespaces/x/pods/..                      . or ..
/api/v1/./pods                                    . or ..
/.                                                . or ..
/api/v1/namespaces/x/pods/y%2Fexec                slash
/api/v1/namespaces/x/pods/y%2fexec                slash
/api/v1/namespaces/x/pods/y%5Cexec                slash
/api/v1/namespaces/x/pods/y\exec                  slash
/api/v1/namespaces/x/pods/y;a=b/exec              semicolon
/api/v1/namespaces/x/pods/y/exec;                 semicolon
/api/v1/namespaces/x/pods/y%3Ba                   semicolon
/api/v1/namespaces/x/pods/y/%65xec                not needed
/api/v1/%73ecrets                                 not needed
/api/v1/secrets/%2E%2E                            not needed
/api/v1/secrets/%2e%2e                            lower case
/api/v1/secrets/%c3%a9                            lower case
/api/v1/secrets/%C3                               UTF-8
/api/v1/secrets/a%C0%AFb                          UTF-8
/api/v1/secrets/a%252Fb                           does not belong
/api/v1/secrets/a%3Fb                             does not belong
/api/v1/secrets/a%00                              does not belong
/api/v1/secrets/a%0D%0A                           does not belong
/api/v1/secrets/a%                                begins no escape
/api/v1/secrets/a%4                               begins no escape
/api/v1/secrets/a%u0041                           begins no escape
/api/v1/secrets/a"b                               does not belong
/api/v1/secrets/a|b                               does not belong
/api/v1/secrets/a#b                               does not belong
/api/v1/secrets/                                  at its end
/api/v1/proxy/                                    nothing behind
/api/v1/namespaces/x/pods/y/exec/                 at its end
/api/v1/watch                                     nothing behind
/apis/g/v/watch                                   nothing behind
/apis/g/v/proxy                                   nothing behind
/api/v1/pods?watch=true&watch=false               watch twice
/api/v1/pods?watch=false&w%61tch=true             watch twice
/api/v1/pods?fieldSelector=a=b&fieldSelector=c=d  fieldSelector twice
/api/v1/pods?watch=true;x=1                       a query
/api/v1/pods?watch=%zz                            a query
"""


@pytest.mark.parametrize("line", HOSTILE.strip().splitlines())
def test_what_could_be_read_in_two_ways_is_refused(line: str) -> None:
    target, words = line.split(maxsplit=1)
    with pytest.raises(NotCanonical, match=re.escape(words)):
        request_info(b"GET", target.encode())


SEGMENT = st.text(string.ascii_letters + string.digits + "-._~:@!$&'()*+,=%;?#/\\ é", max_size=6)
WORDS = st.sampled_from(
    (
        *("api", "apis", "v1", "apps", "watch", "proxy", "namespaces", "status", "pods", "exec", "x"),
        *("", "..", ".", "%2F", "%2e", "%65", "%C3%A9"),
    )
)
TARGETS = st.lists(st.one_of(WORDS, SEGMENT), min_size=1, max_size=9).map(lambda parts: "/" + "/".join(parts))
METHODS = st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"x"])


@given(METHODS, TARGETS)
def test_a_target_is_refused_or_its_parts_rebuild_it(method: bytes, target: str) -> None:
    raw = target.encode()
    try:
        info = request_info(method, raw)
    except NotCanonical:
        return
    path = raw.partition(b"?")[0]
    assert b"//" not in path
    assert not {b".", b".."} & set(path.split(b"/"))
    if not info.resource_request:
        assert info.verb == method.decode().lower()
        return
    prefix = f"/apis/{info.group}/{info.version}" if info.group else f"/api/{info.version}"
    special = [f"/{info.verb}"] if info.verb in ("watch", "proxy") else []
    moved = info.namespace and (info.resource != "namespaces" or info.parts[1:2] != (info.namespace,))
    inner = f"/namespaces/{info.namespace}" if moved or info.namespace != info.name else ""
    rebuilt = {
        prefix + verb + each + "/" + "/".join(info.parts) + end
        for verb in ["", *special]
        for each in ["", inner, f"/namespaces/{info.namespace}"]
        for end in ("", "/")
    }
    assert info.path in rebuilt
    assert info.parts[0] == info.resource
    assert info.subresource in ("", *info.parts[2:3])


@given(METHODS, st.binary(max_size=60).map(lambda data: b"/" + data))
def test_any_bytes_are_read_or_refused(method: bytes, target: bytes) -> None:
    with contextlib.suppress(NotCanonical):
        assert str(request_info(method, target))


IMPERSONATED = """
Impersonate-User:joe                             – – users – joe
impersonate-user:joe                             – – users – joe
IMPERSONATE_USER:joe                             – – users – joe
Impersonate-Group:system:masters                 – – groups – system:masters
Impersonate-Uid:7                                authentication.k8s.io – uids – 7
Impersonate-Extra-Scopes:dev                     authentication.k8s.io – userextras scopes dev
Impersonate-Extra-a.io%2Fb:x                     authentication.k8s.io – userextras a.io/b x
Impersonate-User:system:serviceaccount:ns:sa     – ns serviceaccounts – sa
Impersonate-User:system:serviceaccount:ns:SA     – – users – system:serviceaccount:ns:SA
Impersonate-User:system:serviceaccount:ns:a:b    – – users – system:serviceaccount:ns:a:b
Impersonate-Something:x                          – – users – –
"""


@pytest.mark.parametrize("row", rows(IMPERSONATED), ids=" ".join)
@pytest.mark.parametrize("around", ["{}\r\n", "Host: x\r\n{}\r\n", "{}\r\nAccept: */*\r\n"])
def test_impersonation_is_read_as_kube_apiserver_authorizes_it(row: list[str], around: str) -> None:
    field, *expected = row
    group, namespace, resource, subresource, name = ("" if each == "–" else each for each in expected)
    fields = around.format(field.replace(":", ": ", 1)).encode()
    (info,) = impersonations(fields, "/api")
    assert (info.verb, info.group, info.namespace) == ("impersonate", group, namespace)
    assert (info.resource, info.subresource, info.name) == (resource, subresource, name)


def test_a_request_in_words_hides_nothing_from_its_reader() -> None:
    info = request_info(b"GET", b"/api/v1/secrets/a%E2%80%AEb%C2%85c")
    assert info.name == "a\u202eb\x85c"
    assert str(info) == "get secrets a?b?c"


def test_every_impersonation_field_counts() -> None:
    fields = (
        b"Impersonate-User: a\r\nImpersonate-Group: b\r\nImpersonate-Group: c\r\nX-Impersonate-User: d\r\n"
    )
    assert [info.name for info in impersonations(fields, "/")] == ["a", "b", "c"]
