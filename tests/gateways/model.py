"""What a gateway makes of its objects: from rendered Kubernetes objects to Envoy's configuration.

This stands in for the control planes of Cilium, Istio and the like, none of which runs here; Envoy is
the real one. Modelled of the objects:

- Gateway API: a Gateway's listeners (HTTP, HTTPS with Terminate, TLS with Passthrough) with hostnames;
  TLSRoute; HTTPRoute with exact and prefix paths, exact and pattern headers, redirects of the scheme;
  the order of precedence between the rules; `sectionName`.
- Istio: Gateway servers PASSTHROUGH, SIMPLE and plain with `httpsRedirect`; VirtualService `tls` with
  sniHosts and ports, `http` with headers and URIs in the order in which they stand.
- Services: `appProtocol`, else Istio's port names, say whether Envoy speaks HTTP/2 or HTTP/1.1 to a pod.
- Envoy Gateway: slashes merged and %2F made a slash by a redirect, unless a ClientTrafficPolicy for the
  Gateway says what else is to be done with it.
- Cilium: the gRPC-web filter in front of every HTTP route, unless the gateway class's
  CiliumGatewayClassConfig turns it off; passthrough and termination do not share a port.

Not modelled: attachment rules, ReferenceGrants, status, load balancing (each Service has one pod), and
the control planes' own timeouts. Envoy's defaults stand, and they are the strictest of all. HTTP/2 is always
offered where TLS ends, and appProtocol is always heeded, both of which Cilium has to be told.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]

HTTP2 = {"kubernetes.io/h2c", "grpc", "http2", "h2c"}
"""What an appProtocol says when the pod speaks HTTP/2 without TLS; an Istio port name begins so, too."""

API = "type.googleapis.com/envoy.extensions"


@dataclass(frozen=True)
class Timeouts:
    """Envoy's defaults that a long-lived connection meets, in seconds; `shortened` compresses time."""

    tcp_idle: float = 3600.0
    """Silence in both directions of a passed-through connection."""
    stream_idle: float = 300.0
    """Silence of an HTTP stream, and of a WebSocket that was one."""
    route: float = 15.0
    """From a request's end to its answer's end; no limit for an upgraded connection, which must be seen."""

    def shortened(self, factor: float) -> "Timeouts":
        """Each of them divided by the factor."""
        return Timeouts(self.tcp_idle / factor, self.stream_idle / factor, self.route / factor)


DEFAULTS = Timeouts()


@dataclass
class Site:
    """What is beside the objects: where the pods are, certificates on disk, and which gateway it is."""

    pods: Mapping[str, int]
    """Service name → port of loopback where its one pod listens."""
    ports: Mapping[int, int]
    """Port of a Gateway → port of loopback where Envoy listens."""
    secrets: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Secret name → paths of certificate and key."""
    cilium: bool = False
    envoy_gateway: bool = False
    timeouts: Timeouts = DEFAULTS


class Misfit(Exception):
    """Objects that such a gateway would refuse."""


def envoy_config(objects: list[Object], site: Site) -> Object:
    """Envoy's configuration for the Gateways, routes and Services among the objects; raises Misfit."""
    services = {each["metadata"]["name"]: each for each in objects if each["kind"] == "Service"}
    clusters: dict[str, Object] = {}
    listeners = []
    for port, chains in _chains(objects, services, clusters, site).items():
        if site.cilium and len({kind for kind, _ in chains if kind != "plain"}) > 1:
            raise Misfit(f"port {port} passes some TLS through and ends some: Cilium refuses one of them")
        plain = any(kind == "plain" for kind, _ in chains)
        listeners.append(
            {
                "name": f"port-{port}",
                "address": _address(site.ports[port]),
                "filter_chains": [chain for _, chain in chains],
                "listener_filters": []
                if plain
                else [_typed("filters.listener.tls_inspector.v3.TlsInspector")],
            }
        )
    return {
        "admin": {"address": _address(0)},
        "static_resources": {"listeners": listeners, "clusters": list(clusters.values())},
    }


def _chains(
    objects: list[Object], services: Mapping[str, Object], clusters: dict[str, Object], site: Site
) -> dict[int, list[tuple[str, Object]]]:
    """Port → its filter chains, each with what it does to TLS: passthrough, terminate, or plain."""
    found: dict[int, list[tuple[str, Object]]] = {}
    translate = _Translator(objects, services, clusters, site)
    for gateway in (each for each in objects if each["kind"] == "Gateway"):
        if gateway["apiVersion"].startswith("gateway.networking.k8s.io/"):
            for listener in gateway["spec"]["listeners"]:
                found.setdefault(listener["port"], []).append(translate.listener(gateway, listener))
        else:
            for server in gateway["spec"]["servers"]:
                found.setdefault(server["port"]["number"], []).append(translate.server(gateway, server))
    return found


class _Translator:
    def __init__(
        self,
        objects: list[Object],
        services: Mapping[str, Object],
        clusters: dict[str, Object],
        site: Site,
    ) -> None:
        self._objects = objects
        self._services = services
        self._clusters = clusters
        self._site = site

    def listener(self, gateway: Object, listener: Object) -> tuple[str, Object]:
        """A Gateway API listener with the routes that name it."""
        routes = [each for each in self._objects if _attached(each, gateway, listener)]
        hosts = [listener["hostname"]] if listener.get("hostname") else []
        if listener["protocol"] == "TLS":
            (route,) = [each for each in routes if each["kind"] == "TLSRoute"]
            (rule,) = route["spec"]["rules"]
            (backend,) = rule["backendRefs"]
            return self._passthrough(route["spec"]["hostnames"], backend["name"], backend["port"])
        rules = [
            (match, rule)
            for route in routes
            for rule in route["spec"]["rules"]
            for match in rule.get("matches", [{}])
        ]
        # The most exact path wins, then the longest prefix, then the most headers.
        rules.sort(key=lambda pair: _weight(pair[0]), reverse=True)
        table = [{"match": _gateway_match(match), **self._gateway_action(rule)} for match, rule in rules]
        secret = listener["tls"]["certificateRefs"][0]["name"] if listener["protocol"] == "HTTPS" else None
        paths = self._paths(gateway) if self._site.envoy_gateway else {}
        return self._http(hosts, table, secret, self._translates_grpc_web(gateway), paths)

    def server(self, gateway: Object, server: Object) -> tuple[str, Object]:
        """A server of an Istio Gateway with the VirtualService that names it."""
        tls = server.get("tls", {})
        hosts = [host.rpartition("/")[2] for host in server["hosts"]]
        port = server["port"]["number"]
        (virtual,) = [
            each
            for each in self._objects
            if each["kind"] == "VirtualService"
            and gateway["metadata"]["name"] in [name.rpartition("/")[2] for name in each["spec"]["gateways"]]
            and set(each["spec"]["hosts"]) & set(hosts)
        ]
        if tls.get("mode") == "PASSTHROUGH":
            for rule in virtual["spec"]["tls"]:
                for match in rule["match"]:
                    if match.get("port", port) == port:
                        (route,) = rule["route"]
                        destination = route["destination"]
                        return self._passthrough(
                            match["sniHosts"],
                            destination["host"].partition(".")[0],
                            destination["port"]["number"],
                        )
        if tls.get("httpsRedirect"):
            redirect = {"match": {"prefix": "/"}, "redirect": {"https_redirect": True}}
            return self._http(hosts, [redirect], None, False)
        table = [
            {"match": match, **self._route(each["route"][0]["destination"])}
            for each in virtual["spec"]["http"]
            for match in [_istio_match(match) for match in each.get("match", [{}])]
        ]
        return self._http(hosts, table, tls.get("credentialName"), False)

    def _passthrough(self, names: list[str], service: str, port: int) -> tuple[str, Object]:
        proxy = {
            "stat_prefix": "passthrough",
            "cluster": self._cluster(service, port),
            "idle_timeout": _seconds(self._site.timeouts.tcp_idle),
        }
        chain = {
            "filter_chain_match": {"server_names": names, "transport_protocol": "tls"},
            "filters": [_typed("filters.network.tcp_proxy.v3.TcpProxy", proxy)],
        }
        return "passthrough", chain

    def _http(
        self,
        hosts: list[str],
        table: list[Object],
        secret: str | None,
        grpc_web: bool,
        paths: Object | None = None,
    ) -> tuple[str, Object]:
        filters = [_typed("filters.http.grpc_web.v3.GrpcWeb")] if grpc_web else []
        manager = {
            "stat_prefix": "http",
            **(paths or {}),
            "http_filters": [*filters, _typed("filters.http.router.v3.Router")],
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "stream_idle_timeout": _seconds(self._site.timeouts.stream_idle),
            "route_config": {
                "virtual_hosts": [
                    {
                        "name": "all",
                        "domains": _domains(hosts),
                        "routes": [self._timed(each) for each in table],
                    }
                ]
            },
        }
        chain: Object = {
            "filters": [_typed("filters.network.http_connection_manager.v3.HttpConnectionManager", manager)]
        }
        if secret is None:
            return "plain", chain
        certificate, key = self._site.secrets[secret]
        context = {
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [
                    {"certificate_chain": {"filename": certificate}, "private_key": {"filename": key}}
                ],
            }
        }
        chain["filter_chain_match"] = {"server_names": hosts, "transport_protocol": "tls"} if hosts else {}
        chain["transport_socket"] = _typed("transport_sockets.tls.v3.DownstreamTlsContext", context)
        return "terminate", chain

    def _timed(self, route: Object) -> Object:
        if "route" in route:
            return route | {"route": route["route"] | {"timeout": _seconds(self._site.timeouts.route)}}
        return route

    def _gateway_action(self, rule: Object) -> Object:
        for each in rule.get("filters", []):
            if each["type"] == "RequestRedirect":
                redirect = each["requestRedirect"]
                code = {301: "MOVED_PERMANENTLY", 302: "FOUND"}[redirect.get("statusCode", 302)]
                return {"redirect": {"scheme_redirect": redirect["scheme"], "response_code": code}}
        (backend,) = rule["backendRefs"]
        return {"route": {"cluster": self._cluster(backend["name"], backend["port"])}}

    def _route(self, destination: Object) -> Object:
        service = destination["host"].partition(".")[0]
        return {"route": {"cluster": self._cluster(service, destination["port"]["number"])}}

    def _cluster(self, service: str, port: int) -> str:
        """Envoy's cluster for a port of a Service; its name."""
        name = f"{service}:{port}"
        (entry,) = [each for each in self._services[service]["spec"]["ports"] if each["port"] == port]
        protocol = entry.get("appProtocol") or entry.get("name", "").partition("-")[0]
        cluster: Object = {
            "name": name,
            "type": "STATIC",
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [
                    {"lb_endpoints": [{"endpoint": {"address": _address(self._site.pods[service])}}]}
                ],
            },
        }
        if protocol in HTTP2:
            options = _typed(
                "upstreams.http.v3.HttpProtocolOptions",
                {"explicit_http_config": {"http2_protocol_options": {}}},
            )["typed_config"]
            cluster["typed_extension_protocol_options"] = {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
            }
        self._clusters[name] = cluster
        return name

    def _paths(self, gateway: Object) -> Object:
        """What Envoy Gateway does to paths: its defaults, or what a policy for this Gateway says."""
        actions = {
            "KeepUnchanged": "KEEP_UNCHANGED",
            "RejectRequest": "REJECT_REQUEST",
            "UnescapeAndForward": "UNESCAPE_AND_FORWARD",
            "UnescapeAndRedirect": "UNESCAPE_AND_REDIRECT",
        }
        action = "UnescapeAndRedirect"
        for each in self._objects:
            if each["kind"] == "ClientTrafficPolicy":
                for target in each["spec"]["targetRefs"]:
                    if (target["kind"], target["name"]) == ("Gateway", gateway["metadata"]["name"]):
                        action = each["spec"]["path"]["escapedSlashesAction"]
        escaped = actions[action]
        return {"normalize_path": True, "merge_slashes": True, "path_with_escaped_slashes_action": escaped}

    def _translates_grpc_web(self, gateway: Object) -> bool:
        """Whether it is Cilium, and its gateway class does not turn the translation off."""
        for each in self._objects:
            if (
                each["kind"] == "GatewayClass"
                and each["metadata"]["name"] == gateway["spec"]["gatewayClassName"]
                and each["spec"]["controllerName"] == "io.cilium/gateway-controller"
            ):
                wanted = each["spec"]["parametersRef"]["name"]
                (config,) = [
                    one
                    for one in self._objects
                    if one["kind"] == "CiliumGatewayClassConfig" and one["metadata"]["name"] == wanted
                ]
                return bool(config["spec"]["httpOptions"]["grpcWebTranslation"]["enabled"])
        return self._site.cilium


def _attached(route: Object, gateway: Object, listener: Object) -> bool:
    if route["kind"] not in {"TLSRoute", "HTTPRoute"}:
        return False
    return any(
        parent["name"] == gateway["metadata"]["name"]
        and parent.get("sectionName", listener["name"]) == listener["name"]
        for parent in route["spec"]["parentRefs"]
    )


def _weight(match: Object) -> tuple[bool, int, int]:
    path = match.get("path", {"type": "PathPrefix", "value": "/"})
    return path["type"] == "Exact", len(path["value"]), len(match.get("headers", []))


def _gateway_match(match: Object) -> Object:
    path = match.get("path", {"type": "PathPrefix", "value": "/"})
    kind = {"Exact": "path", "PathPrefix": "prefix"}[path["type"]]
    headers = []
    for each in match.get("headers", []):
        exact = each.get("type", "Exact") == "Exact"
        how = {"exact": each["value"]} if exact else {"safe_regex": {"regex": each["value"]}}
        headers.append({"name": each["name"], "string_match": how})
    return {kind: path["value"], "headers": headers}


def _istio_match(match: Object) -> Object:
    uri = match.get("uri", {"prefix": "/"})
    place = {"path": uri["exact"]} if "exact" in uri else {"prefix": uri["prefix"]}
    headers = [{"name": name, "string_match": how} for name, how in match.get("headers", {}).items()]
    return {**place, "headers": headers}


def _domains(hosts: list[str]) -> list[str]:
    return [domain for host in hosts for domain in (host, f"{host}:*")] or ["*"]


def _seconds(value: float) -> str:
    return f"{value:.3f}s"


def _address(port: int) -> Object:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _typed(kind: str, more: Object | None = None) -> Object:
    return {"name": kind, "typed_config": {"@type": f"{API}.{kind}", **(more or {})}}
