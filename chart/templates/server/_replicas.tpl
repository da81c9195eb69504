{{/* Several servers: where they find each other, and how they show who they are. "true" or a name, empty for none. */}}

{{/* Whether there is a registry: only with one has a server other replicas. */}}
{{- define "argotun.registry" -}}
{{- if and (eq .Values.mode "server") (or .Values.registry.url .Values.registry.urlKey) }}true{{ end -}}
{{- end -}}

{{- define "argotun.peer.certSecret" -}}
{{- if .Values.peer.certSecret -}}
{{ .Values.peer.certSecret }}
{{- else if or .Values.certManager.enabled .Values.peer.certData -}}
{{ include "argotun.fullname" . }}-peer-tls
{{- end -}}
{{- end -}}

{{- define "argotun.peer.name" -}}
{{- .Values.peer.name | default "argotun-peer" -}}
{{- end -}}

{{/* Whether cert-manager issues the replicas' certificate. */}}
{{- define "argotun.peer.issued" -}}
{{- if and (include "argotun.registry" .) .Values.certManager.enabled (not .Values.peer.certSecret) }}true{{ end -}}
{{- end -}}

{{- define "argotun.replicas.args" -}}
{{- with .Values.registry -}}
{{- with .url }}
- {{ printf "--registry=%s" . | quote }}
{{- end }}
{{- if and .existingSecret .passwordKey (not .urlKey) }}
- --registry-password-file=/registry/{{ .passwordKey }}
{{- end }}
{{- if .sentinelPasswordKey }}
- --registry-sentinel-password-file=/registry/{{ .sentinelPasswordKey }}
{{- end }}
{{- if .caSecret }}
- --registry-ca-cert=/registry-ca/ca.crt
{{- end }}
{{- if .clientCertSecret }}
- --registry-client-cert=/registry-client/tls.crt
- --registry-client-key=/registry-client/tls.key
{{- end }}
{{- with .prefix }}
- {{ printf "--registry-prefix=%s" . | quote }}
{{- end }}
{{- end }}
- --peer-addr=:{{ int .Values.peer.port }}
- --peer-cert=/peer/tls.crt
- --peer-key=/peer/tls.key
- --peer-ca=/peer-ca/ca.crt
{{- with .Values.peer.name }}
- {{ printf "--peer-name=%s" . | quote }}
{{- end }}
- --advertise=$(POD_IP)
{{- if and .Values.peer.seeds (gt (int .Values.replicas) 1) }}
- --peer-seeds={{ include "argotun.fullname" . }}-peers:{{ int .Values.peer.port }}
{{- end }}
{{- end -}}

{{/* Environment that the arguments above need, before what is said in `extraEnv`. */}}
{{- define "argotun.replicas.env" -}}
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
{{- with .Values.registry.urlKey }}
- name: ARGOTUN_REGISTRY
  valueFrom:
    secretKeyRef:
      name: {{ $.Values.registry.existingSecret | quote }}
      key: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Files as in "argotun.server.files". */}}
{{- define "argotun.replicas.files" -}}
{{- $files := list -}}
{{- with .Values.registry -}}
{{- $keys := list (empty .urlKey | ternary .passwordKey "") .sentinelPasswordKey | compact | uniq -}}
{{- if and .existingSecret $keys -}}
{{- $files = append $files (dict "name" "registry" "path" "/registry" "secret" .existingSecret "items" $keys) -}}
{{- end -}}
{{- with .caSecret -}}
{{- $files = append $files (dict "name" "registry-ca" "path" "/registry-ca" "secret" . "items" (list "ca.crt")) -}}
{{- end -}}
{{- with .clientCertSecret -}}
{{- $files = append $files (dict "name" "registry-client" "path" "/registry-client" "secret" . "items" (list "tls.crt" "tls.key")) -}}
{{- end -}}
{{- end -}}
{{- $cert := include "argotun.peer.certSecret" . -}}
{{- $files = append $files (dict "name" "peer" "path" "/peer" "secret" $cert "items" (list "tls.crt" "tls.key")) -}}
{{- $files = append $files (dict "name" "peer-ca" "path" "/peer-ca" "secret" (.Values.peer.caSecret | default $cert) "items" (list "ca.crt")) -}}
{{- toJson $files -}}
{{- end -}}

{{/* Ports of the registry, a JSON list: those of its URL, or what each kind has without one, and those that are said. */}}
{{- define "argotun.registry.ports" -}}
{{- $ports := .Values.networkPolicy.registryPorts -}}
{{- $url := .Values.registry.url -}}
{{- if and $url (not (hasPrefix "unix:" $url)) -}}
{{- $usual := contains "+sentinel:" $url | ternary "26379" "6379" -}}
{{- range splitList "," (regexReplaceAll "/.*$" (regexReplaceAll "^[^/]*//([^/@]*@)?" $url "") "") -}}
{{- $ports = append $ports (regexFind ":[0-9]+$" . | trimPrefix ":" | default $usual) -}}
{{- end -}}
{{- end -}}
{{- $ports | toStrings | uniq | toJson -}}
{{- end -}}

{{- define "argotun.check.replicas" -}}
{{- $wrong := list -}}
{{- $v := .Values -}}
{{- $r := $v.registry -}}
{{- $p := $v.peer -}}
{{- if include "argotun.registry" . -}}
{{- if and $r.url $r.urlKey -}}
{{- $wrong = append $wrong "registry.url, registry.urlKey: expected only one of them" -}}
{{- end -}}
{{- if and (or $r.urlKey $r.sentinelPasswordKey) (not $r.existingSecret) -}}
{{- $wrong = append $wrong "registry.existingSecret: expected the Secret that has the keys in registry.urlKey and registry.sentinelPasswordKey" -}}
{{- end -}}
{{- if regexMatch "^[^/]*//[^/@]*:[^/@]*@" $r.url -}}
{{- $wrong = append $wrong "registry.url: a password would be readable in the Deployment; use registry.existingSecret" -}}
{{- end -}}
{{- if and $r.url (not (hasPrefix "rediss" $r.url)) (or $r.caSecret $r.clientCertSecret) -}}
{{- $wrong = append $wrong "registry.caSecret, registry.clientCertSecret: have no meaning for a registry without TLS, expected rediss:// in registry.url" -}}
{{- end -}}
{{- if and $r.sentinelPasswordKey $r.url (not (contains "+sentinel:" $r.url)) -}}
{{- $wrong = append $wrong "registry.sentinelPasswordKey: has no meaning without redis+sentinel:// in registry.url" -}}
{{- end -}}
{{- if not (include "argotun.peer.certSecret" .) -}}
{{- $wrong = append $wrong "peer.certSecret: expected the Secret with the replicas' tls.crt and tls.key, since they show each other certificates (or peer.certData, or certManager.enabled)" -}}
{{- end -}}
{{- if and $p.certSecret $p.certData -}}
{{- $wrong = append $wrong "peer.certSecret, peer.certData: expected only one of them" -}}
{{- end -}}
{{- if ne 1 (len (list (empty $p.certData) (empty $p.keyData) | uniq)) -}}
{{- $wrong = append $wrong "peer.certData, peer.keyData: expected both or neither" -}}
{{- end -}}
{{- if and $p.caSecret $p.caData -}}
{{- $wrong = append $wrong "peer.caSecret, peer.caData: expected only one of them" -}}
{{- end -}}
{{- if and $p.certData (not (or $p.caSecret $p.caData)) -}}
{{- $wrong = append $wrong "peer.caData: expected the CA of peer.certData, or peer.caSecret" -}}
{{- end -}}
{{- if and $p.caData (not $p.certData) -}}
{{- $wrong = append $wrong "peer.caData: belongs to peer.certData; with peer.certSecret or certManager use peer.caSecret" -}}
{{- end -}}
{{- if and $p.certData $v.certManager.enabled -}}
{{- $wrong = append $wrong "peer.certData: would not be used, since certManager issues that certificate; say only one" -}}
{{- end -}}
{{- if has ($p.caSecret | default (include "argotun.peer.certSecret" .)) (list (include "argotun.clientCASecret" .) (include "argotun.internalClientCASecret" .) | compact) -}}
{{- $wrong = append $wrong "peer.caSecret: expected a CA that signs replicas' certificates only; with this one an agent whose certificate has their name would be a replica" -}}
{{- end -}}
{{- if has (int $p.port) (list (int $v.port) (int $v.internalPort) (int $v.healthPort)) -}}
{{- $wrong = append $wrong "peer.port: expected a port that is not port, internalPort or healthPort" -}}
{{- end -}}
{{- else -}}
{{- if gt (int $v.replicas) 1 -}}
{{- $wrong = append $wrong "replicas: more than one server needs registry.url, a Redis in which they find each other's agents; without it each would answer 503 for the clusters whose agents are at another one" -}}
{{- end -}}
{{- range $name := list "existingSecret" "sentinelPasswordKey" "caSecret" "clientCertSecret" "prefix" -}}
{{- if get $r $name -}}
{{- $wrong = append $wrong (printf "registry.%s: has no meaning without registry.url or registry.urlKey" $name) -}}
{{- end -}}
{{- end -}}
{{- range $name := list "name" "certSecret" "certData" "keyData" "caSecret" "caData" -}}
{{- if get $p $name -}}
{{- $wrong = append $wrong (printf "peer.%s: has no meaning without registry.url or registry.urlKey" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $wrong -}}
{{- end -}}
