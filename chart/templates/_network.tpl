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
  {{- with include "argotun.healthRule" . }}
  {{- . | nindent 2 }}
  {{- end }}
# A server dials nobody.
egress: {{ if not .Values.networkPolicy.extraEgress }}[]{{ end }}
  {{- with .Values.networkPolicy.extraEgress }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* The port of the first hop to the server: the proxy's where there is one. */}}
{{- define "argotun.hopPort" -}}
{{- $url := urlParse (.Values.proxy | default .Values.serverURL) -}}
{{- $known := dict "wss" "443" "https" "443" "ws" "80" "http" "80" -}}
{{- regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (get $known $url.scheme) -}}
{{- end -}}

{{- define "argotun.agent.rules" -}}
{{- $policy := .Values.networkPolicy -}}
ingress: {{ if not (include "argotun.healthRule" .) }}[]{{ end }}
  {{- with include "argotun.healthRule" . }}
  {{- . | nindent 2 }}
  {{- end }}
egress:
  - ports:
      - protocol: UDP
        port: 53
      - protocol: TCP
        port: 53
  - ports:
      {{- include "argotun.tcp" (include "argotun.hopPort" .) | nindent 6 }}
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
