{{/* Ways to the public port: what they have in common. */}}

{{/* All that is ever routed where a gateway reads paths, as a JSON list. */}}
{{- define "argotun.publicPaths" -}}["/connect", "/healthz"]{{- end -}}

{{/* Port of the public Service. */}}
{{- define "argotun.publicPort" -}}
{{- int .Values.service.port | default (int .Values.port) -}}
{{- end -}}

{{/* The newest TLSRoute that the cluster says it has; a cluster that says nothing is taken for a current one. */}}
{{- define "argotun.tlsRoute" -}}
{{- $newest := "v1" -}}
{{- range list "v1alpha2" "v1alpha3" "v1" -}}
{{- if $.Capabilities.APIVersions.Has (printf "gateway.networking.k8s.io/%s/TLSRoute" .) -}}
{{- $newest = . -}}
{{- end -}}
{{- end -}}
gateway.networking.k8s.io/{{ .Values.gateway.route.tlsRouteVersion | default $newest }}
{{- end -}}

{{/* metadata of an object beside the Service that it leads to. */}}
{{- define "argotun.exposure.metadata" -}}
name: {{ include "argotun.fullname" . | quote }}
namespace: {{ .Release.Namespace | quote }}
labels:
  {{- include "argotun.labels" . | nindent 2 }}
{{- with .Values.exposure.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Hosts that agents may dial, for the server's certificate: a JSON list. */}}
{{- define "argotun.publicHosts" -}}
{{- $hosts := list -}}
{{- if or .Values.gateway.create .Values.gateway.parentRefs -}}
{{- $hosts = concat $hosts (list .Values.gateway.hostname) .Values.gateway.hostnames -}}
{{- end -}}
{{- if .Values.ingress.enabled -}}
{{- $hosts = append $hosts .Values.ingress.host -}}
{{- end -}}
{{- if .Values.exposure.kind -}}
{{- $hosts = append $hosts .Values.exposure.host -}}
{{- end -}}
{{- $hosts | compact | uniq | toJson -}}
{{- end -}}

{{/* How an ingress controller is told to pass TLS through. */}}
{{- define "argotun.passthroughAnnotation" -}}
{{- $annotations := dict
  "nginx" "nginx.ingress.kubernetes.io/ssl-passthrough"
  "haproxy" "haproxy.org/ssl-passthrough"
  "haproxy-ingress" "haproxy-ingress.github.io/ssl-passthrough" -}}
{{- get $annotations .Values.ingress.controller -}}
{{- end -}}

{{/* Idle timeouts of the clouds' load balancers, as high as they go with some margin. */}}
{{- define "argotun.cloudAnnotations" -}}
{{- if eq .Values.exposure.cloud "aws" -}}
service.beta.kubernetes.io/aws-load-balancer-type: external
service.beta.kubernetes.io/aws-load-balancer-nlb-target-type: ip
service.beta.kubernetes.io/aws-load-balancer-listener-attributes.TCP-{{ include "argotun.publicPort" . }}: tcp.idle_timeout.seconds=3600
{{- else if eq .Values.exposure.cloud "azure" -}}
service.beta.kubernetes.io/azure-load-balancer-tcp-idle-timeout: "30"
service.beta.kubernetes.io/azure-load-balancer-disable-tcp-reset: "false"
{{- end -}}
{{- end -}}

{{/* What values.schema.json cannot say about `exposure`, `ingress.controller` and shared ports. */}}
{{- define "argotun.check.ways" -}}
{{- $wrong := list -}}
{{- $e := .Values.exposure -}}
{{- $terminate := eq $e.tlsMode "Terminate" -}}
{{- if $e.kind -}}
{{- if not $e.host -}}
{{- $wrong = append $wrong "exposure.host: expected the host that agents dial, since exposure.kind is set" -}}
{{- end -}}
{{- if and (not $terminate) (not (include "argotun.tls" .)) -}}
{{- $wrong = append $wrong "exposure.tlsMode: Passthrough leaves TLS to argotun, which has no certificate: set tls.enabled and tls.certSecret, or certManager.enabled, or Terminate" -}}
{{- end -}}
{{- if and $terminate (include "argotun.tls" .) -}}
{{- $wrong = append $wrong "exposure.tlsMode: Terminate speaks plain HTTP to argotun and carries no client certificate, so tls.enabled and certManager.enabled must be false; or use Passthrough" -}}
{{- end -}}
{{- if and $terminate (not $e.tlsSecret) (not (eq $e.kind "openshift")) -}}
{{- $wrong = append $wrong "exposure.tlsSecret: expected the Secret of the gateway's certificate, since exposure.tlsMode is Terminate" -}}
{{- end -}}
{{- end -}}
{{- if and $e.cloud (ne .Values.service.type "LoadBalancer") -}}
{{- $wrong = append $wrong "exposure.cloud: sets timeouts of a LoadBalancer, so service.type must be LoadBalancer" -}}
{{- end -}}
{{- $i := .Values.ingress -}}
{{- if and $i.enabled $i.controller (not $i.tlsSecret) (not (include "argotun.tls" .)) -}}
{{- $wrong = append $wrong "ingress.controller: would pass TLS through to argotun, which has no certificate: set tls.enabled and tls.certSecret, or certManager.enabled, or ingress.tlsSecret" -}}
{{- end -}}
{{- if .Values.gateway.create -}}
{{- range .Values.gateway.extraListeners -}}
{{- $other := dig "tls" "mode" "Terminate" . -}}
{{- if and (hasPrefix "cilium" $.Values.gateway.className) (eq (int .port) (int $.Values.gateway.port)) (ne $other $.Values.gateway.tlsMode) -}}
{{- $wrong = append $wrong (printf "gateway.extraListeners: %s ends TLS by mode %s on port %d, where Cilium cannot also do %s; give it a port or a Gateway of its own" .name $other (int .port) $.Values.gateway.tlsMode) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $wrong -}}
{{- end -}}
