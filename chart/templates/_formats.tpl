{{/* Texts that do not look as files/formats.yaml says, as a JSON list of sentences. */}}

{{/* What stands at a path of the values: a JSON list of places and values, several where a list is on the way. */}}
{{- define "argotun.at" -}}
{{- $found := list (dict "place" "" "value" .values) -}}
{{- range $segment := splitList "." .path -}}
{{- $key := trimSuffix "[]" $segment -}}
{{- $next := list -}}
{{- range $found -}}
{{- $place := printf "%s.%s" .place $key | trimPrefix "." -}}
{{- $value := get (.value | default dict) $key -}}
{{- if kindIs "slice" $value -}}
{{- range $index, $each := $value -}}
{{- $next = append $next (dict "place" (printf "%s[%d]" $place $index) "value" $each) -}}
{{- end -}}
{{- else if eq $key $segment -}}
{{- $next = append $next (dict "place" $place "value" $value) -}}
{{- end -}}
{{- end -}}
{{- $found = $next -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{- define "argotun.check.formats" -}}
{{- $wrong := list -}}
{{- $values := merge (dict "clusters" (include "argotun.clusters" . | fromJsonArray)) .Values -}}
{{- range $format := .Files.Get "files/formats.yaml" | fromYamlArray -}}
{{- range $path := .paths -}}
{{- range include "argotun.at" (dict "values" $values "path" $path) | fromJsonArray -}}
{{- $text := toString .value -}}
{{- if and (or $text $format.needed) (not (regexMatch $format.pattern $text)) -}}
{{- $got := or $format.secret (eq $text "") | ternary "" (printf ", got %q" $text) -}}
{{- $wrong = append $wrong (printf "%s: expected %s%s" .place $format.expected $got) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $wrong -}}
{{- end -}}
