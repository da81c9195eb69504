{{/* Ways to argocd-server: what they have in common. */}}

{{/* The way when this release makes one; empty otherwise. */}}
{{- define "argotun.argocd.way" -}}
{{- if eq .Values.mode "server" -}}{{ .Values.argocdServer.exposure.way }}{{- end -}}
{{- end -}}

{{- define "argotun.argocd.fullname" -}}
{{ include "argotun.fullname" . }}-argocd-server
{{- end -}}

{{/* metadata of an object beside argocd-server. */}}
{{- define "argotun.argocd.metadata" -}}
name: {{ include "argotun.argocd.fullname" . | quote }}
namespace: {{ .Values.argocd.namespace | quote }}
labels:
  {{- include "argotun.labels" . | nindent 2 }}
{{- end -}}

{{/* Class of the Gateway that is made; empty where it is somebody else's. */}}
{{- define "argotun.argocd.gatewayClass" -}}
{{- $e := .Values.argocdServer.exposure -}}
{{- $e.cilium.createClass | ternary (printf "%s.%s" (include "argotun.argocd.fullname" .) .Values.argocd.namespace) $e.gateway.className -}}
{{- end -}}

{{/* Ports of argocd-server's Service: TLS passes through to 443; where it ends, 80 is HTTP/1.1 and 443 is for gRPC. */}}
{{- define "argotun.argocd.helmValues" -}}
{{- $e := .Values.argocdServer.exposure -}}
global:
  domain: {{ $e.host | quote }}
configs:
  params:
    server.insecure: {{ not (hasSuffix "-passthrough" $e.way) }}
{{- if hasSuffix "-split" $e.way }}
server:
  service:
    servicePortHttpsAppProtocol: kubernetes.io/h2c
{{- end }}
{{- end -}}

{{- define "argotun.argocd.login" -}}
argocd login {{ .Values.argocdServer.exposure.host }}{{ if hasSuffix "-terminate" .Values.argocdServer.exposure.way }} --grpc-web{{ end }}
{{- end -}}

{{- define "argotun.check.argocdServer" -}}
{{- $wrong := list -}}
{{- $e := .Values.argocdServer.exposure -}}
{{- if $e.way -}}
{{- if not $e.host -}}
{{- $wrong = append $wrong "argocdServer.exposure.host: expected the host of argocd-server, since argocdServer.exposure.way is set" -}}
{{- end -}}
{{- if and (hasPrefix "gateway-" $e.way) (not (or $e.gateway.className $e.gateway.parentRefs $e.cilium.createClass)) -}}
{{- $wrong = append $wrong "argocdServer.exposure.gateway: expected className or cilium.createClass to make a Gateway, or parentRefs of one that is there" -}}
{{- end -}}
{{- end -}}
{{- if and $e.envoyGateway.createPolicy (or (not $e.gateway.className) (not (has $e.way (list "gateway-terminate" "gateway-split")))) -}}
{{- $wrong = append $wrong "argocdServer.exposure.envoyGateway.createPolicy: is for a Gateway made here by gateway.className, with gateway-terminate or gateway-split" -}}
{{- end -}}
{{- if $e.cilium.createClass -}}
{{- if not (has $e.way (list "gateway-terminate" "gateway-split")) -}}
{{- $wrong = append $wrong "argocdServer.exposure.cilium.createClass: turns off a filter that only gateway-terminate and gateway-split meet" -}}
{{- end -}}
{{- if $e.gateway.className -}}
{{- $wrong = append $wrong "argocdServer.exposure: expected only one of gateway.className and cilium.createClass, which makes a class of its own" -}}
{{- end -}}
{{- end -}}
{{- toJson $wrong -}}
{{- end -}}
