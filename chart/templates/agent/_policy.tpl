{{/* The customer's policy: whether these values say one, and its text. */}}

{{- define "argotun.policy.own" -}}
{{- if or .Values.policy.presets .Values.policy.rules -}}true{{- end -}}
{{- end -}}

{{/* The ConfigMap that the policy is in; empty without a policy. */}}
{{- define "argotun.policy.configMap" -}}
{{- if .Values.policy.existingConfigMap -}}
{{- .Values.policy.existingConfigMap -}}
{{- else if include "argotun.policy.own" . -}}
{{- printf "%s-policy" (include "argotun.fullname" .) -}}
{{- end -}}
{{- end -}}

{{/* Whoever could change the ConfigMap or the agent's pod had no policy: those rules come first. */}}
{{- define "argotun.policy" -}}
{{- $own := list .Release.Namespace -}}
{{- $rules := list -}}
{{- if .Values.policy.protect -}}
{{- $writes := dict "namespaces" $own "verbs" (dict "except" (list "get" "list" "watch")) -}}
{{- $rules = append $rules (dict "name" "argotun-changes" "deny" $writes) -}}
{{- $rules = append $rules (dict "name" "argotun-shells" "deny" (dict "namespaces" $own "upgrade" true)) -}}
{{- end -}}
{{- $policy := dict -}}
{{- with .Values.policy.presets -}}
{{- $policy = set $policy "presets" . -}}
{{- end -}}
{{- with concat $rules .Values.policy.rules -}}
{{- $policy = merge $policy (dict "rules" . "default" ($.Values.policy.default | default "allow")) -}}
{{- end -}}
{{- toYaml $policy -}}
{{- end -}}

{{- define "argotun.check.policy" -}}
{{- $wrong := list -}}
{{- $p := .Values.policy -}}
{{- if and $p.existingConfigMap (or (include "argotun.policy.own" .) $p.default) -}}
{{- $wrong = append $wrong "policy.existingConfigMap: expected no presets, rules and default beside it, which would not be used" -}}
{{- end -}}
{{- if and $p.rules (not $p.default) -}}
{{- $wrong = append $wrong "policy.default: expected allow or deny, for what no rule of policy.rules decides" -}}
{{- end -}}
{{- if and $p.default (not (include "argotun.policy.own" .)) -}}
{{- $wrong = append $wrong "policy.default: has no meaning without policy.presets or policy.rules" -}}
{{- end -}}
{{- toJson $wrong -}}
{{- end -}}
