{{/* What NOTES.txt says about the ways in: who ends TLS, and what Argo CD's own chart is to be given. */}}

{{/* Hosts where TLS ends before argotun, or empty. */}}
{{- define "argotun.terminated" -}}
{{- $hosts := list -}}
{{- if and (or .Values.gateway.create .Values.gateway.parentRefs) (eq .Values.gateway.tlsMode "Terminate") -}}
{{- $hosts = concat $hosts (.Values.gateway.hostnames | default (list .Values.gateway.hostname)) -}}
{{- end -}}
{{- if and .Values.ingress.enabled (or .Values.ingress.tlsSecret (not (include "argotun.tls" .))) -}}
{{- $hosts = append $hosts .Values.ingress.host -}}
{{- end -}}
{{- if and .Values.exposure.kind (eq .Values.exposure.tlsMode "Terminate") -}}
{{- $hosts = append $hosts .Values.exposure.host -}}
{{- end -}}
{{- $hosts | compact | uniq | join ", " -}}
{{- end -}}

{{/* What agents dial, as far as this release knows: the port of somebody else's gateway is taken for 443. */}}
{{- define "argotun.publicURLs" -}}
{{- $ports := dict -}}
{{- if .Values.gateway.create -}}
{{- $_ := set $ports (.Values.gateway.hostname | default (first .Values.gateway.hostnames)) (int .Values.gateway.port) -}}
{{- end -}}
{{- if and (eq .Values.exposure.kind "istio") (not .Values.exposure.istio.gateway) -}}
{{- $_ := set $ports .Values.exposure.host (int .Values.exposure.istio.port) -}}
{{- end -}}
{{- $urls := list -}}
{{- range include "argotun.publicHosts" . | fromJsonArray -}}
{{- $port := get $ports . | default 443 | int -}}
{{- $urls = append $urls (printf "wss://%s%s/connect" . (eq $port 443 | ternary "" (printf ":%d" $port))) -}}
{{- end -}}
{{- join ", " $urls -}}
{{- end -}}

{{- define "argotun.notes.exposure" -}}
{{- with include "argotun.publicURLs" . }}

Agents dial {{ . }}
{{- end }}
{{- with include "argotun.terminated" . }}
TLS ends before argotun on {{ . }}: no client certificate arrives, so an agent's identity is its token
alone, and entries with certNames are refused.
{{- end }}
{{- end -}}

{{- define "argotun.notes.argocdServer" -}}
{{- $e := .Values.argocdServer.exposure }}
{{- if $e.way }}

argocd-server is reached at https://{{ $e.host }} ({{ $e.way }}). Values for Argo CD's own chart:
{{ include "argotun.argocd.helmValues" . | trim | indent 4 }}
{{- if hasSuffix "-passthrough" $e.way }}
Its certificate is in the Secret argocd-server-tls of namespace {{ .Values.argocd.namespace }}.
{{- else if hasPrefix "istio-" $e.way }}
The gateway's certificate is the Secret {{ $e.certificate.secretName }}, in the namespace of the gateway's pods.
{{- else if $e.gateway.className }}
{{- if hasPrefix "cilium" $e.gateway.className }}
Cilium translates gRPC-web by default, which breaks `argocd --grpc-web`: set argocdServer.exposure.cilium.createClass,
or let TLS pass through.
{{- else if and (regexMatch "^(eg|envoy)" $e.gateway.className) (not $e.envoyGateway.createPolicy) }}
Envoy Gateway takes %2F in paths for slashes, which breaks Argo CD's pages of clusters and repositories: set
argocdServer.exposure.envoyGateway.createPolicy, or let TLS pass through.
{{- end }}
{{- end }}
Log in with:
  {{ include "argotun.argocd.login" . }}
{{- end }}
{{- end -}}
