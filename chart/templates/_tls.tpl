{{/* Where certificates come from. "true" or the name of a Secret, empty for none. */}}

{{/* Whether the server's ports have TLS. */}}
{{- define "argotun.tls" -}}
{{- if or .Values.tls.enabled .Values.certManager.enabled }}true{{ end -}}
{{- end -}}

{{/* Whether the chart makes a CA of its own. */}}
{{- define "argotun.ownCA" -}}
{{- if and .Values.certManager.enabled (not .Values.certManager.issuerRef.name) }}true{{ end -}}
{{- end -}}

{{- define "argotun.certSecret" -}}
{{- if .Values.tls.certSecret -}}
{{ .Values.tls.certSecret }}
{{- else if or .Values.certManager.enabled .Values.tls.certData -}}
{{ include "argotun.fullname" . }}-tls
{{- end -}}
{{- end -}}

{{/* A CA of the chart's own is in the server's Secret too, so that the one with its key need not be mounted. */}}
{{- define "argotun.clientCASecret" -}}
{{- if .Values.tls.clientCASecret -}}
{{ .Values.tls.clientCASecret }}
{{- else if .Values.tls.clientCAData -}}
{{ include "argotun.fullname" . }}-client-ca
{{- else if include "argotun.ownCA" . -}}
{{ include "argotun.fullname" . }}-{{ empty .Values.tls.certSecret | ternary "tls" "ca" }}
{{- end -}}
{{- end -}}

{{/* Callers' CA, where it is not that of agents. */}}
{{- define "argotun.internalClientCASecret" -}}
{{- if .Values.tls.internalClientCASecret -}}
{{ .Values.tls.internalClientCASecret }}
{{- else if .Values.tls.internalClientCAData -}}
{{ include "argotun.fullname" . }}-internal-client-ca
{{- end -}}
{{- end -}}

{{/* The Secret with the callers file. */}}
{{- define "argotun.callersSecret" -}}
{{- if .Values.existingCallersSecret -}}
{{ .Values.existingCallersSecret }}
{{- else if .Values.callers -}}
{{ include "argotun.fullname" . }}-callers
{{- end -}}
{{- end -}}

{{/* What the agent trusts the server by. */}}
{{- define "argotun.serverCASecret" -}}
{{- if .Values.tls.serverCASecret -}}
{{ .Values.tls.serverCASecret }}
{{- else if .Values.tls.serverCAData -}}
{{ include "argotun.fullname" . }}-server-ca
{{- end -}}
{{- end -}}

{{/* What the agent shows to the server. */}}
{{- define "argotun.clientCertSecret" -}}
{{- if .Values.tls.clientCertSecret -}}
{{ .Values.tls.clientCertSecret }}
{{- else if or .Values.certManager.enabled .Values.tls.clientCertData -}}
{{ include "argotun.fullname" . }}-client-tls
{{- end -}}
{{- end -}}

{{- define "argotun.internalScheme" -}}
{{- if and (include "argotun.tls" .) (not .Values.tls.internalPlain) }}https{{ else }}http{{ end -}}
{{- end -}}

{{/* spec.issuerRef of each certificate but the CA's own. */}}
{{- define "argotun.issuerRef" -}}
{{- with .Values.certManager.issuerRef -}}
name: {{ .name | default (printf "%s-ca" (include "argotun.fullname" $)) | quote }}
kind: "{{ if .name }}{{ .kind }}{{ else }}Issuer{{ end }}"
group: {{ .group | quote }}
{{- end -}}
{{- end -}}

{{/* A CA of the chart's own and its issuer, both of one name: a list of the root context and what ends the name. */}}
{{- define "argotun.authority" -}}
{{- $root := first . -}}
{{- $full := include "argotun.fullname" $root -}}
{{- $name := printf "%s-%s" $full (last .) -}}
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  name: {{ $name | quote }}
  namespace: {{ $root.Release.Namespace | quote }}
  labels:
    {{- include "argotun.labels" $root | nindent 4 }}
spec:
  isCA: true
  commonName: {{ $name | quote }}
  secretName: {{ $name | quote }}
  duration: {{ $root.Values.certManager.caDuration | quote }}
  privateKey:
    algorithm: ECDSA
    size: 256
    # Others hold copies of this CA, customers or running pods: renewed with the same key, they go on being right.
    rotationPolicy: Never
  issuerRef:
    name: "{{ $full }}-selfsigned"
    kind: Issuer
    group: cert-manager.io
---
apiVersion: cert-manager.io/v1
kind: Issuer
metadata:
  name: {{ $name | quote }}
  namespace: {{ $root.Release.Namespace | quote }}
  labels:
    {{- include "argotun.labels" $root | nindent 4 }}
spec:
  ca:
    secretName: {{ $name | quote }}
{{- end -}}

{{/* spec of a leaf certificate without its names and its issuer: a new key at each renewal. */}}
{{- define "argotun.term" -}}
duration: {{ .Values.certManager.duration | quote }}
renewBefore: {{ .Values.certManager.renewBefore | quote }}
privateKey:
  algorithm: ECDSA
  size: 256
  rotationPolicy: Always
{{- end -}}

{{/* The same with the issuer of most. */}}
{{- define "argotun.leaf" -}}
{{ include "argotun.term" . }}
issuerRef:
  {{- include "argotun.issuerRef" . | nindent 2 }}
{{- end -}}

{{/* The certificate name of a cluster's agent where the chart has one issued; a common name has 64 characters at most. */}}
{{- define "argotun.certName" -}}
{{- $short := gt (len .id) 64 | ternary (printf "%s-%s" (trunc 55 .id) (sha256sum .id | trunc 8)) .id -}}
{{- .certNames | default (list $short) | first -}}
{{- end -}}
