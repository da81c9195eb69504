{{/* What differs between the pods of both modes: arguments, mounts, volumes, resources. */}}

{{- define "argotun.server.args" -}}
- --mode=server
- --addr=:{{ int .Values.port }}
- --internal-addr=:{{ int .Values.internalPort }}
- --clusters=/clusters/clusters.json
- --revoked=/revoked/revoked
{{- if include "argotun.tls" . }}
- --tls-cert=/tls/tls.crt
- --tls-key=/tls/tls.key
{{- end }}
{{- if include "argotun.clientCASecret" . }}
- --tls-client-ca=/tls-client-ca/ca.crt
{{- end }}
{{- if include "argotun.internalClientCASecret" . }}
- --internal-client-ca=/tls-internal-client-ca/ca.crt
{{- end }}
{{- if include "argotun.callersSecret" . }}
- --callers=/callers/callers.json
{{- else if .Values.tls.internalClientNames }}
- {{ printf "--internal-client-names=%s" (join "," .Values.tls.internalClientNames) | quote }}
{{- end }}
{{- if gt (int .Values.maxConnectionsPerCaller) 0 }}
- --max-connections-per-caller={{ int .Values.maxConnectionsPerCaller }}
{{- end }}
{{- if .Values.tls.internalPlain }}
- --internal-plain
{{- end }}
{{- if gt (float64 .Values.rateLimit) 0.0 }}
- --rate-limit={{ toJson .Values.rateLimit }}
{{- end }}
{{- with .Values.trustedProxies }}
- --trusted-proxies={{ join "," . }}
{{- end }}
{{- if ne (int .Values.minWireVersion) 2 }}
- --min-wire-version={{ int .Values.minWireVersion }}
{{- end }}
{{- if include "argotun.registry" . }}
{{ include "argotun.replicas.args" . | trim }}
{{- end }}
{{- end -}}

{{- define "argotun.agent.args" -}}
- --mode=agent
- {{ printf "--server=%s" .Values.serverURL | quote }}
{{- if .Values.serverToken.audience }}
- --server-token-path=/server-token/token
{{- else }}
- --token-file=/token/token
{{- end }}
- {{ printf "--target=%s" .Values.targetAddr | quote }}
{{- with .Values.targetHostName }}
- {{ printf "--target-host-name=%s" . | quote }}
{{- end }}
- {{ printf "--sa-token-path=%s" .Values.saTokenPath | quote }}
{{- if .Values.insecure }}
- --insecure
{{- else if .Values.targetCASecret }}
- --ca-cert=/target-ca/ca.crt
{{- else }}
- {{ printf "--ca-cert=%s/ca.crt" (dir .Values.saTokenPath) | quote }}
{{- end }}
{{- if include "argotun.serverCASecret" . }}
- --server-ca-cert=/tls-server-ca/ca.crt
{{- end }}
{{- if include "argotun.clientCertSecret" . }}
- --client-cert=/tls-client/tls.crt
- --client-key=/tls-client/tls.key
{{- end }}
{{- if .Values.allowInsecureServer }}
- --allow-insecure-server
{{- end }}
{{- with .Values.proxy }}
- {{ printf "--proxy=%s" . | quote }}
{{- end }}
- --max-retry={{ .Values.maxRetryInterval }}
{{- if ne (int .Values.tunnels) 2 }}
- --tunnels={{ int .Values.tunnels }}
{{- end }}
{{- if include "argotun.policy.configMap" . }}
- --policy=/policy/policy.yaml
{{- end }}
{{- end -}}

{{/* All arguments but the extra ones. */}}
{{- define "argotun.args" -}}
{{ include (printf "argotun.%s.args" .Values.mode) . }}
- --health-addr=:{{ int .Values.healthPort }}
- --drain={{ int .Values.drainSeconds }}s
- --log-level={{ .Values.logLevel }}
- --log-format={{ .Values.logFormat }}
{{- if .Values.configSecret }}
- --config=/config/config.yaml
{{- end }}
{{- end -}}

{{/* The files of a mode as a JSON list of name, path, and secret or configMap with items, or the audience of a
projected token, or neither for the one for the API. */}}
{{- define "argotun.server.files" -}}
{{- $clusters := .Values.existingClustersSecret | default (printf "%s-clusters" (include "argotun.fullname" .)) -}}
{{- $files := list (dict "name" "clusters" "path" "/clusters" "secret" $clusters "items" (list "clusters.json")) -}}
{{- $files = append $files (dict "name" "revoked" "path" "/revoked" "secret" (printf "%s-revoked" (include "argotun.fullname" .)) "items" (list "revoked")) -}}
{{- with include "argotun.certSecret" . -}}
{{- $files = append $files (dict "name" "tls" "path" "/tls" "secret" . "items" (list "tls.crt" "tls.key")) -}}
{{- end -}}
{{- with include "argotun.clientCASecret" . -}}
{{- $files = append $files (dict "name" "tls-client-ca" "path" "/tls-client-ca" "secret" . "items" (list "ca.crt")) -}}
{{- end -}}
{{- with include "argotun.internalClientCASecret" . -}}
{{- $files = append $files (dict "name" "tls-internal-client-ca" "path" "/tls-internal-client-ca" "secret" . "items" (list "ca.crt")) -}}
{{- end -}}
{{- with include "argotun.callersSecret" . -}}
{{- $files = append $files (dict "name" "callers" "path" "/callers" "secret" . "items" (list "callers.json")) -}}
{{- end -}}
{{- if include "argotun.registry" . -}}
{{- $files = concat $files (include "argotun.replicas.files" . | fromJsonArray) -}}
{{- end -}}
{{- toJson $files -}}
{{- end -}}

{{- define "argotun.agent.files" -}}
{{- $files := list -}}
{{- if .Values.serverToken.audience -}}
{{- $files = append $files (dict "name" "server-token" "path" "/server-token" "audience" .Values.serverToken.audience) -}}
{{- else -}}
{{- $token := .Values.existingSecret | default (printf "%s-token" (include "argotun.fullname" .)) -}}
{{- $files = append $files (dict "name" "token" "path" "/token" "secret" $token "items" (list "token")) -}}
{{- end -}}
{{- with include "argotun.serverCASecret" . -}}
{{- $files = append $files (dict "name" "tls-server-ca" "path" "/tls-server-ca" "secret" . "items" (list "ca.crt")) -}}
{{- end -}}
{{- with include "argotun.clientCertSecret" . -}}
{{- $files = append $files (dict "name" "tls-client" "path" "/tls-client" "secret" . "items" (list "tls.crt" "tls.key")) -}}
{{- end -}}
{{- with .Values.targetCASecret -}}
{{- $files = append $files (dict "name" "target-ca" "path" "/target-ca" "secret" . "items" (list "ca.crt")) -}}
{{- end -}}
{{- with include "argotun.policy.configMap" . -}}
{{- $files = append $files (dict "name" "policy" "path" "/policy" "configMap" . "items" (list "policy.yaml")) -}}
{{- end -}}
{{- $files = append $files (dict "name" "serviceaccount" "path" (dir .Values.saTokenPath)) -}}
{{- toJson $files -}}
{{- end -}}

{{- define "argotun.files" -}}
{{- $files := include (printf "argotun.%s.files" .Values.mode) . | fromJsonArray -}}
{{- with .Values.configSecret -}}
{{- $files = append $files (dict "name" "config" "path" "/config" "secret" . "items" (list "config.yaml")) -}}
{{- end -}}
{{- toJson $files -}}
{{- end -}}

{{- define "argotun.volumeMounts" -}}
{{- range include "argotun.files" . | fromJsonArray }}
- name: {{ .name | quote }}
  mountPath: {{ .path | quote }}
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Whole folders, never a subPath: the kubelet then exchanges the files when the Secret or ConfigMap changes. */}}
{{- define "argotun.volumes" -}}
{{- range include "argotun.files" . | fromJsonArray }}
- name: {{ .name | quote }}
  {{- if or .secret .configMap }}
  {{- if .secret }}
  secret:
    secretName: {{ .secret | quote }}
  {{- else }}
  configMap:
    name: {{ .configMap | quote }}
  {{- end }}
    defaultMode: 0440
    items:
      {{- range .items }}
      - key: {{ . | quote }}
        path: {{ . | quote }}
      {{- end }}
  {{- else if .audience }}
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          audience: {{ .audience | quote }}
          expirationSeconds: {{ int $.Values.serverToken.expirationSeconds }}
  {{- else }}
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: {{ base $.Values.saTokenPath | quote }}
          expirationSeconds: {{ int $.Values.saTokenExpirationSeconds }}
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: ca.crt
  {{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "argotun.server.resources" -}}
requests:
  cpu: 100m
  memory: 128Mi
limits:
  memory: 1Gi
{{- end -}}

{{- define "argotun.agent.resources" -}}
requests:
  cpu: 50m
  memory: 64Mi
limits:
  memory: 256Mi
{{- end -}}

{{/* Defaults with what the values say over them: a list of both. What is null there is left out. */}}
{{- define "argotun.overlaid" -}}
{{- include "argotun.withoutNull" (mergeOverwrite (first .) (deepCopy (last .))) -}}
{{- end -}}

{{- define "argotun.withoutNull" -}}
{{- $kept := dict -}}
{{- range $key, $value := . -}}
{{- if kindIs "map" $value -}}
{{- $_ := set $kept $key (include "argotun.withoutNull" $value | fromYaml) -}}
{{- else if not (kindIs "invalid" $value) -}}
{{- $_ := set $kept $key $value -}}
{{- end -}}
{{- end -}}
{{- toYaml $kept -}}
{{- end -}}

{{- define "argotun.resources" -}}
{{- include "argotun.overlaid" (list (include (printf "argotun.%s.resources" .Values.mode) . | fromYaml) .Values.resources) -}}
{{- end -}}

{{/* OpenShift gives each namespace a range of user ids, and refuses any other. */}}
{{- define "argotun.podSecurityContext" -}}
{{- $own := dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- if not (.Capabilities.APIVersions.Has "security.openshift.io/v1") -}}
{{- $own = merge $own (dict "runAsUser" 65532 "runAsGroup" 65532 "fsGroup" 65532 "fsGroupChangePolicy" "OnRootMismatch") -}}
{{- end -}}
{{- include "argotun.overlaid" (list $own .Values.podSecurityContext) -}}
{{- end -}}

{{/*
A server is ready when it listens, not when an agent is there: agents come through its Service, and Argo CD
is to get argotun's own answer about a missing agent. One of several is ready when it knows where the agents are,
which does not wait for a registry that is away. An agent is ready when its tunnel is up.
*/}}
{{- define "argotun.server.ready" -}}/{{ include "argotun.registry" . | empty | ternary "healthz" "joined" }}{{- end -}}
{{- define "argotun.agent.ready" -}}/readyz{{- end -}}

{{- define "argotun.podAnnotations" -}}
{{- $scrape := dict -}}
{{- if and .Values.monitoring.annotations (not .Values.podMonitor.enabled) (not .Values.serviceMonitor.enabled) -}}
{{- $scrape = dict "prometheus.io/scrape" "true" "prometheus.io/port" (int .Values.healthPort | toString) "prometheus.io/path" "/metrics" -}}
{{- end -}}
{{- include "argotun.merged" (list $scrape .Values.podAnnotations) -}}
{{- end -}}

{{/*
Seconds of the preStop sleep; Kubernetes has it from 1.30 on, and a hook in `lifecycle` is in its place. A server that
others have links to serves its agents' clusters to all of them while it sleeps, and load balancers hear meanwhile that
it goes; by itself it would only keep the agents from the pod that clients are sent to.
*/}}
{{- define "argotun.preStop" -}}
{{- if hasKey .Values.lifecycle "preStop" -}}
{{- dig "sleep" "seconds" 0 (.Values.lifecycle.preStop | default dict) | int -}}
{{- else if semverCompare "<1.30.0-0" .Capabilities.KubeVersion.Version -}}
0
{{- else if ge (int .Values.preStopSeconds) 0 -}}
{{- int .Values.preStopSeconds -}}
{{- else -}}
{{- ternary 8 (include "argotun.registry" . | empty | ternary 0 5) (eq .Values.mode "agent") -}}
{{- end -}}
{{- end -}}

{{- define "argotun.lifecycle" -}}
{{- $own := dict -}}
{{- if not (or (hasKey .Values.lifecycle "preStop") (eq (include "argotun.preStop" .) "0")) -}}
{{- $own = dict "preStop" (dict "sleep" (dict "seconds" (include "argotun.preStop" . | int))) -}}
{{- end -}}
{{- with include "argotun.overlaid" (list $own .Values.lifecycle) | fromYaml -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{/* A constraint without a selector gets the release's own; several pods are spread without being asked to be. */}}
{{- define "argotun.spread" -}}
{{- $own := include "argotun.selectorLabels" . | fromYaml -}}
{{- $constraints := .Values.topologySpreadConstraints -}}
{{- if and (not $constraints) (gt (int .Values.replicas) 1) -}}
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" -}}
{{- /* Pods of one revision are counted, or those that go would keep the new ones from their places. */ -}}
{{- $constraints = append $constraints (dict "maxSkew" 1 "topologyKey" . "whenUnsatisfiable" "ScheduleAnyway" "matchLabelKeys" (list "pod-template-hash")) -}}
{{- end -}}
{{- end -}}
{{- range $constraints }}
{{- $selector := .labelSelector | default dict }}
{{- if or $selector.matchLabels $selector.matchExpressions }}
{{ list . | toYaml }}
{{- else }}
{{ list (merge (dict "labelSelector" (dict "matchLabels" $own)) (omit . "labelSelector")) | toYaml }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The environment of the program: who it is among replicas, and what the values add. */}}
{{- define "argotun.env" -}}
{{- if include "argotun.registry" . }}
{{ include "argotun.replicas.env" . | trim }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
