{{/* Names, labels and the image. */}}

{{- define "argotun.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* 50 characters leave room for the longest suffix in a Service's 63. */}}
{{- define "argotun.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- /* The name of a Service begins with a letter. */ -}}
{{- if regexMatch "^[0-9]" $full -}}
{{- $full = printf "%s-%s" $name .Release.Name -}}
{{- end -}}
{{- .Values.fullnameOverride | default ($full | replace "." "-") | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* A name for what lies outside of the release's namespace, where every other release's objects lie too. */}}
{{- define "argotun.wideName" -}}
{{ include "argotun.fullname" . }}.{{ .Release.Namespace }}
{{- end -}}

{{- define "argotun.selectorLabels" -}}
app.kubernetes.io/name: {{ include "argotun.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: {{ .Values.mode | quote }}
{{- end -}}

{{/* Maps as one, as YAML: of two that have the same key, the later one's counts. Empty for no keys. */}}
{{- define "argotun.merged" -}}
{{- $all := dict -}}
{{- range . -}}
{{- range $key, $value := . -}}
{{- $_ := set $all $key $value -}}
{{- end -}}
{{- end -}}
{{- with $all }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{/* Labels of an object: a list of the root context and more labels. A selector's are the release's own in any case. */}}
{{- define "argotun.labelsWith" -}}
{{- $root := first . -}}
{{- $chart := printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" -}}
{{- $own := dict "app.kubernetes.io/version" $root.Chart.AppVersion "app.kubernetes.io/managed-by" $root.Release.Service "helm.sh/chart" $chart -}}
{{- include "argotun.merged" (list $own $root.Values.commonLabels (last .) (include "argotun.selectorLabels" $root | fromYaml)) -}}
{{- end -}}

{{- define "argotun.labels" -}}
{{- include "argotun.labelsWith" (list . dict) -}}
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

{{/* The entries of `clusters`, which may be a map by id, as a JSON list. One that is null is no entry. */}}
{{- define "argotun.clusters" -}}
{{- $all := list -}}
{{- if kindIs "map" .Values.clusters -}}
{{- range $id, $entry := .Values.clusters -}}
{{- if kindIs "map" $entry -}}
{{- $all = append $all (merge (dict "id" $id) $entry) -}}
{{- end -}}
{{- end -}}
{{- else -}}
{{- $all = .Values.clusters | default list -}}
{{- end -}}
{{- toJson $all -}}
{{- end -}}

{{/* The entries that get a cluster secret of Argo CD's, as a JSON list. */}}
{{- define "argotun.argocd.clusters" -}}
{{- $all := list -}}
{{- range include "argotun.clusters" . | fromJsonArray -}}
{{- if and $.Values.argocd.enabled (ne (dig "argocd" "enabled" true .) false) -}}
{{- $all = append $all . -}}
{{- end -}}
{{- end -}}
{{- toJson $all -}}
{{- end -}}

{{/* A cluster's id as a part of an object's name; what does not fit is told apart by a digest. */}}
{{- define "argotun.slug" -}}
{{- $slug := . | lower | replace "_" "-" | replace "." "-" | trunc 63 | trimSuffix "-" -}}
{{- eq $slug . | ternary $slug (printf "%s-%s" $slug (sha256sum . | trunc 8)) -}}
{{- end -}}
