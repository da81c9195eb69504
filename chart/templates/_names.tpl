{{/* Names, labels and the image. */}}

{{- define "argotun.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* 50 characters leave room for the longest suffix in a Service's 63. */}}
{{- define "argotun.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- .Values.fullnameOverride | default ($full | replace "." "-") | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "argotun.selectorLabels" -}}
app.kubernetes.io/name: {{ include "argotun.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ .Values.mode }}
{{- end -}}

{{- define "argotun.labels" -}}
{{ include "argotun.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "argotun.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "argotun.fullname" .) "default") -}}
{{- end -}}

{{- define "argotun.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A cluster's id as a part of an object's name; what does not fit is told apart by a digest. */}}
{{- define "argotun.slug" -}}
{{- $slug := . | lower | replace "_" "-" | replace "." "-" | trunc 63 | trimSuffix "-" -}}
{{- eq $slug . | ternary $slug (printf "%s-%s" $slug (sha256sum . | trunc 8)) -}}
{{- end -}}
