{{/* Rules of the NetworkPolicy. Ports and addresses are those of pods: policies count after DNAT. */}}

{{- define "argotun.namespacePeer" -}}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ . | quote }}
{{- end -}}

{{- define "argotun.tcp" -}}
- protocol: TCP
  port: {{ int . }}
{{- end -}}

{{/* The pods of this release. */}}
{{- define "argotun.ownPods" -}}
- podSelector:
    matchLabels:
      {{- include "argotun.selectorLabels" . | nindent 6 }}
{{- end -}}

{{- define "argotun.dnsRule" -}}
- ports:
    {{- range .Values.networkPolicy.dnsPorts }}
    - protocol: UDP
      port: {{ int . }}
    {{- include "argotun.tcp" . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Whom the health port lets in; the kubelet needs no rule. */}}
{{- define "argotun.healthRule" -}}
{{- $peers := .Values.networkPolicy.ingressFrom -}}
{{- if or $peers .Values.monitoring.namespace -}}
- from:
    {{- with .Values.monitoring.namespace }}
    {{- include "argotun.namespacePeer" . | nindent 4 }}
    {{- end }}
    {{- with $peers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    {{- include "argotun.tcp" .Values.healthPort | nindent 4 }}
{{- end -}}
{{- end -}}

{{- define "argotun.server.rules" -}}
ingress:
  - ports:
      {{- include "argotun.tcp" .Values.port | nindent 6 }}
    {{- with .Values.networkPolicy.publicFrom }}
    from:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  - from:
      {{- include "argotun.namespacePeer" .Values.argocd.namespace | nindent 6 }}
      {{- with .Values.networkPolicy.internalFrom }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    ports:
      {{- include "argotun.tcp" .Values.internalPort | nindent 6 }}
  {{- if include "argotun.registry" . }}
  - from:
      {{- include "argotun.ownPods" . | nindent 6 }}
    ports:
      {{- include "argotun.tcp" .Values.peer.port | nindent 6 }}
  {{- end }}
  {{- with include "argotun.healthRule" . }}
  {{- . | nindent 2 }}
  {{- end }}
{{- if include "argotun.registry" . }}
# A server dials other replicas and the registry.
egress:
  {{- include "argotun.dnsRule" . | nindent 2 }}
  - to:
      {{- include "argotun.ownPods" . | nindent 6 }}
    ports:
      {{- include "argotun.tcp" .Values.peer.port | nindent 6 }}
  {{- with include "argotun.registry.ports" . | fromJsonArray }}
  - ports:
      {{- range . }}
      {{- include "argotun.tcp" . | nindent 6 }}
      {{- end }}
    {{- with $.Values.networkPolicy.registryTo }}
    to:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  {{- end }}
{{- else }}
# A server dials nobody.
egress: {{ if not .Values.networkPolicy.extraEgress }}[]{{ end }}
{{- end }}
  {{- with .Values.networkPolicy.extraEgress }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "argotun.portOf" -}}
{{- $url := urlParse . -}}
{{- $known := dict "wss" "443" "https" "443" "ws" "80" "http" "80" -}}
{{- regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (get $known $url.scheme) -}}
{{- end -}}

{{/* Ports of the first hop to the server, a JSON list: those of a proxy where there may be one. */}}
{{- define "argotun.hopPorts" -}}
{{- $ports := list (include "argotun.portOf" (.Values.proxy | default .Values.serverURL)) -}}
{{- $hidden := .Values.configSecret -}}
{{- range .Values.extraEnv -}}
{{- if has (upper .name) (list "HTTPS_PROXY" "ALL_PROXY" "ARGOTUN_PROXY") -}}
{{- if .value -}}
{{- $ports = append $ports (include "argotun.portOf" (contains "://" .value | ternary .value (printf "http://%s" .value))) -}}
{{- else -}}
{{- $hidden = "true" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $hidden (not .Values.proxy) -}}
{{- $ports = concat $ports .Values.networkPolicy.proxyPorts -}}
{{- end -}}
{{- $ports | toStrings | uniq | toJson -}}
{{- end -}}

{{- define "argotun.agent.rules" -}}
{{- $policy := .Values.networkPolicy -}}
ingress: {{ if not (include "argotun.healthRule" .) }}[]{{ end }}
  {{- with include "argotun.healthRule" . }}
  {{- . | nindent 2 }}
  {{- end }}
egress:
  {{- include "argotun.dnsRule" . | nindent 2 }}
  - ports:
      {{- range include "argotun.hopPorts" . | fromJsonArray }}
      {{- include "argotun.tcp" . | nindent 6 }}
      {{- end }}
    {{- with $policy.proxyServerCIDR }}
    to:
      - ipBlock:
          cidr: {{ . | quote }}
    {{- end }}
  - ports:
      {{- range append $policy.apiServerPorts (regexFind "[0-9]+$" .Values.targetAddr) | toStrings | uniq }}
      {{- include "argotun.tcp" . | nindent 6 }}
      {{- end }}
    {{- with $policy.apiServerCIDRs }}
    to:
      {{- range . }}
      - ipBlock:
          cidr: {{ . | quote }}
      {{- end }}
    {{- end }}
  {{- with $policy.extraEgress }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
