{{/* What values.schema.json cannot say: sentences about values that do not go together. */}}

{{- define "argotun.check" -}}
{{- $wrong := list -}}
{{- if not .Values.mode -}}
{{- /* `helm lint` installs nothing, and looks at the chart's own values too, which are for either side. */ -}}
{{- if or .Release.IsInstall .Release.IsUpgrade -}}
{{- $wrong = append $wrong "mode: say what this release is, server (beside Argo CD) or agent (in a customer's cluster)" -}}
{{- end -}}
{{- else -}}
{{- $wrong = concat (include "argotun.check.formats" . | fromJsonArray) (include "argotun.check.both" . | fromJsonArray) -}}
{{- $wrong = concat $wrong (include (printf "argotun.check.%s" .Values.mode) . | fromJsonArray) -}}
{{- end -}}
{{- with $wrong -}}
{{- fail (printf "\n\nThese values cannot be used:\n  - %s\n" (join "\n  - " .)) -}}
{{- end -}}
{{- end -}}

{{- define "argotun.check.both" -}}
{{- $wrong := list -}}
{{- if contains "argocd-cluster-proxy" (include "argotun.image" .) -}}
{{- $wrong = append $wrong "image.repository: names the program before this one, as its values do; expected argotun's image" -}}
{{- end -}}
{{- $grace := int .Values.terminationGracePeriodSeconds -}}
{{- if and $grace (lt $grace (add (include "argotun.preStop" .) .Values.drainSeconds | int)) -}}
{{- $wrong = append $wrong "terminationGracePeriodSeconds: expected at least drainSeconds and the preStop sleep, or Kubernetes kills requests that may still finish" -}}
{{- end -}}
{{- $args := include "argotun.args" . -}}
{{- range .Values.extraArgs -}}
{{- $flag := regexFind "^--[a-z0-9-]+" . -}}
{{- if regexMatch (printf "(?m)^- \"?%s(=|$)" $flag) $args -}}
{{- $wrong = append $wrong (printf "extraArgs: %s is an argument already, from a value of its own" $flag) -}}
{{- end -}}
{{- if hasPrefix "--token=" . -}}
{{- $wrong = append $wrong "extraArgs: --token would be readable in the Deployment; use token or existingSecret" -}}
{{- end -}}
{{- end -}}
{{- $monitored := or .Values.podMonitor.enabled .Values.serviceMonitor.enabled -}}
{{- if and $monitored .Values.networkPolicy.enabled (not (or .Values.monitoring.namespace .Values.networkPolicy.ingressFrom)) -}}
{{- $wrong = append $wrong "monitoring.namespace: expected Prometheus' namespace, since the NetworkPolicy lets nobody else in (or networkPolicy.ingressFrom)" -}}
{{- end -}}
{{- if and .Values.podMonitor.enabled .Values.serviceMonitor.enabled -}}
{{- $wrong = append $wrong "podMonitor.enabled, serviceMonitor.enabled: expected only one, or everything is scraped twice" -}}
{{- end -}}
{{- $wrong = concat $wrong (include "argotun.check.data" . | fromJsonArray) -}}
{{- toJson $wrong -}}
{{- end -}}

{{/* Certificates in the values: one source for each, and never a certificate without its key. */}}
{{- define "argotun.check.data" -}}
{{- $wrong := list -}}
{{- $tls := .Values.tls -}}
{{- range $secret, $data := dict "certSecret" "certData" "clientCASecret" "clientCAData" "internalClientCASecret" "internalClientCAData" "serverCASecret" "serverCAData" "clientCertSecret" "clientCertData" -}}
{{- if and (get $tls $secret) (get $tls $data) -}}
{{- $wrong = append $wrong (printf "tls.%s, tls.%s: expected only one of them" $secret $data) -}}
{{- end -}}
{{- end -}}
{{- range $cert, $key := dict "certData" "keyData" "clientCertData" "clientKeyData" -}}
{{- if ne (empty (get $tls $cert)) (empty (get $tls $key)) -}}
{{- $wrong = append $wrong (printf "tls.%s, tls.%s: expected both or neither" $cert $key) -}}
{{- end -}}
{{- if and (get $tls $cert) $.Values.certManager.enabled -}}
{{- $wrong = append $wrong (printf "tls.%s: would not be used, since certManager issues that certificate; say only one" $cert) -}}
{{- end -}}
{{- end -}}
{{- toJson $wrong -}}
{{- end -}}

{{- define "argotun.check.server" -}}
{{- $wrong := list -}}
{{- $v := .Values -}}
{{- range $name := list "serverURL" "token" "existingSecret" "proxy" "targetHostName" -}}
{{- if get $v $name -}}
{{- $wrong = append $wrong (printf "%s: belongs to mode agent, this release is mode server" $name) -}}
{{- end -}}
{{- end -}}
{{- if $v.serverToken.audience -}}
{{- $wrong = append $wrong "serverToken.audience: belongs to mode agent, this release is mode server" -}}
{{- end -}}
{{- range $name := list "serverCASecret" "serverCAData" "clientCertSecret" "clientCertData" "clientKeyData" -}}
{{- if get $v.tls $name -}}
{{- $wrong = append $wrong (printf "tls.%s: belongs to mode agent, this release is mode server" $name) -}}
{{- end -}}
{{- end -}}
{{- if include "argotun.policy.configMap" . -}}
{{- $wrong = append $wrong "policy: belongs to mode agent, this release is mode server" -}}
{{- end -}}
{{- $ports := list (int $v.port) (int $v.internalPort) (int $v.healthPort) -}}
{{- if ne (len ($ports | uniq)) 3 -}}
{{- $wrong = append $wrong "port, internalPort, healthPort: expected three different ports" -}}
{{- end -}}
{{- $ids := list -}}
{{- $tokens := list -}}
{{- if kindIs "map" $v.clusters -}}
{{- range $id, $entry := $v.clusters -}}
{{- if ne (dig "id" $id ($entry | default dict)) $id -}}
{{- $wrong = append $wrong (printf "clusters.%s.id: expected none, or %q, the key that it stands under" $id $id) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $index, $cluster := include "argotun.clusters" . | fromJsonArray -}}
{{- $where := printf "clusters[%d] (id %s)" $index $cluster.id -}}
{{- if has $cluster.id $ids -}}
{{- $wrong = append $wrong (printf "%s: expected an id that no other entry has" $where) -}}
{{- end -}}
{{- $ids = append $ids $cluster.id -}}
{{- $own := concat (list $cluster.token) ($cluster.tokens | default list) | compact | uniq -}}
{{- if not (or $own $cluster.tokenSha256 $cluster.serviceAccount $v.existingClustersSecret) -}}
{{- $wrong = append $wrong (printf "%s: expected token, tokens, tokenSha256 or serviceAccount, or existingClustersSecret for all entries" $where) -}}
{{- end -}}
{{- if and $v.existingClustersSecret (or $own $cluster.tokenSha256) -}}
{{- $wrong = append $wrong (printf "%s: its token would not be used, since existingClustersSecret is; say only one" $where) -}}
{{- end -}}
{{- with $cluster.serviceAccount -}}
{{- if not (and .issuer .audience .subject) -}}
{{- $wrong = append $wrong (printf "%s, serviceAccount: expected issuer, audience and subject" $where) -}}
{{- end -}}
{{- if ne 1 (len (list .jwks .jwksFile .jwksURL | compact)) -}}
{{- $wrong = append $wrong (printf "%s, serviceAccount: expected one of jwks, jwksFile and jwksURL" $where) -}}
{{- end -}}
{{- if and .jwksURL $v.networkPolicy.enabled (not $v.networkPolicy.extraEgress) -}}
{{- $wrong = append $wrong (printf "%s, serviceAccount.jwksURL: expected a rule for it in networkPolicy.extraEgress, since the server may dial nobody otherwise" $where) -}}
{{- end -}}
{{- end -}}
{{- range $own -}}
{{- if has . $tokens -}}
{{- $wrong = append $wrong (printf "%s: expected a token that no other cluster has" $where) -}}
{{- end -}}
{{- $tokens = append $tokens . -}}
{{- end -}}
{{- end -}}
{{- if and $v.tls.enabled (not (include "argotun.certSecret" .)) -}}
{{- $wrong = append $wrong "tls.certSecret: expected the Secret with the server's tls.crt and tls.key, since tls.enabled is true" -}}
{{- end -}}
{{- if and (include "argotun.callersSecret" .) (eq (include "argotun.internalScheme" .) "http") -}}
{{- $wrong = append $wrong "callers, existingCallersSecret: nobody can show who they are while the internal port is plain HTTP" -}}
{{- end -}}
{{- if and (include "argotun.callersSecret" .) $v.tls.internalClientNames -}}
{{- $wrong = append $wrong "tls.internalClientNames: counts for nothing beside callers; say only one" -}}
{{- end -}}
{{- if and (include "argotun.internalClientCASecret" .) $v.tls.internalPlain -}}
{{- $wrong = append $wrong "tls.internalClientCASecret: has no meaning while tls.internalPlain is true" -}}
{{- end -}}
{{- if not (include "argotun.tls" .) -}}
{{- range $name := list "certSecret" "certData" "keyData" "clientCASecret" "clientCAData" "internalClientCASecret" "internalClientCAData" "internalClientNames" "internalPlain" -}}
{{- if get $v.tls $name -}}
{{- $wrong = append $wrong (printf "tls.%s: has no meaning without tls.enabled: true" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $wrong = concat $wrong (include "argotun.check.argocd" . | fromJsonArray) (include "argotun.check.exposure" . | fromJsonArray) -}}
{{- $wrong = concat $wrong (include "argotun.check.replicas" . | fromJsonArray) -}}
{{- $wrong = concat $wrong (include "argotun.check.ways" . | fromJsonArray) (include "argotun.check.argocdServer" . | fromJsonArray) -}}
{{- toJson $wrong -}}
{{- end -}}

{{- define "argotun.check.argocd" -}}
{{- $wrong := list -}}
{{- $a := .Values.argocd -}}
{{- $names := prepend $a.reservedNames "in-cluster" -}}
{{- range include "argotun.argocd.clusters" . | fromJsonArray -}}
{{- $name := dig "argocd" "name" .id . -}}
{{- if has $name $names -}}
{{- $wrong = append $wrong (printf "clusters (id %s): Argo CD would have two clusters with the name %q, or one with the name of its own; expected another id or argocd.name" .id $name) -}}
{{- end -}}
{{- $names = append $names $name -}}
{{- end -}}
{{- if eq (include "argotun.internalScheme" .) "https" -}}
{{- if and $a.enabled (not $a.caData) -}}
{{- $wrong = append $wrong "argocd.caData: expected the CA of the server's certificate in base64, since Argo CD comes by https (or argocd.enabled=false until cert-manager has issued it, or tls.internalPlain=true)" -}}
{{- end -}}
{{- if and $a.enabled (include "argotun.clientCASecret" .) (not $a.clientCertData) -}}
{{- $wrong = append $wrong "argocd.clientCertData: expected Argo CD's client certificate in base64, since the server asks for one (or tls.internalPlain=true)" -}}
{{- end -}}
{{- else if or $a.caData $a.clientCertData $a.clientKeyData -}}
{{- $wrong = append $wrong "argocd.caData, clientCertData, clientKeyData: have no meaning while Argo CD comes by plain http" -}}
{{- end -}}
{{- if ne (empty $a.clientCertData) (empty $a.clientKeyData) -}}
{{- $wrong = append $wrong "argocd.clientCertData, argocd.clientKeyData: expected both or neither" -}}
{{- end -}}
{{- toJson $wrong -}}
{{- end -}}

{{- define "argotun.check.exposure" -}}
{{- $wrong := list -}}
{{- $g := .Values.gateway -}}
{{- $i := .Values.ingress -}}
{{- if or $g.create $g.parentRefs -}}
{{- if and $g.create (not $g.className) -}}
{{- $wrong = append $wrong "gateway.className: expected the class of the Gateway, since gateway.create is true" -}}
{{- end -}}
{{- if not (or $g.hostname $g.hostnames) -}}
{{- $wrong = append $wrong "gateway.hostname: expected the host that agents dial" -}}
{{- end -}}
{{- if eq $g.tlsMode "Passthrough" -}}
{{- if not (include "argotun.tls" .) -}}
{{- $wrong = append $wrong "gateway.tlsMode: Passthrough leaves TLS to argotun, which has no certificate: set tls.enabled and tls.certSecret, or certManager.enabled, or Terminate" -}}
{{- end -}}
{{- else -}}
{{- if include "argotun.tls" . -}}
{{- $wrong = append $wrong "gateway.tlsMode: Terminate speaks plain HTTP to argotun and carries no client certificate, so tls.enabled and certManager.enabled must be false; or use Passthrough" -}}
{{- end -}}
{{- if and $g.create (not $g.tls.secretName) -}}
{{- $wrong = append $wrong "gateway.tls.secretName: expected the Secret of the gateway's certificate, since gateway.tlsMode is Terminate" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $i.enabled (not $i.host) -}}
{{- $wrong = append $wrong "ingress.host: expected the host that agents dial" -}}
{{- end -}}
{{- if and $i.enabled $i.tlsSecret (include "argotun.clientCASecret" .) -}}
{{- $wrong = append $wrong "ingress.tlsSecret: an ingress that ends TLS carries no client certificate, which the server asks for; leave it empty and let the ingress pass TLS through" -}}
{{- end -}}
{{- toJson $wrong -}}
{{- end -}}

{{- define "argotun.check.agent" -}}
{{- $wrong := list -}}
{{- $v := .Values -}}
{{- range $name := list "clusters" "existingClustersSecret" "callers" "existingCallersSecret" "revoked" -}}
{{- if get $v $name -}}
{{- $wrong = append $wrong (printf "%s: belongs to mode server, this release is mode agent" $name) -}}
{{- end -}}
{{- end -}}
{{- range $name := list "enabled" "certSecret" "certData" "keyData" "clientCASecret" "clientCAData" "internalClientCASecret" "internalClientCAData" "internalClientNames" "internalPlain" -}}
{{- if get $v.tls $name -}}
{{- $wrong = append $wrong (printf "tls.%s: belongs to mode server, this release is mode agent" $name) -}}
{{- end -}}
{{- end -}}
{{- range $group := list "registry" "peer" -}}
{{- range $name, $value := omit (get $v $group) "port" "passwordKey" "seeds" -}}
{{- if $value -}}
{{- $wrong = append $wrong (printf "%s.%s: belongs to mode server, this release is mode agent" $group $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name := list "argocd" "ingress" "serviceMonitor" -}}
{{- if (get $v $name).enabled -}}
{{- $wrong = append $wrong (printf "%s.enabled: belongs to mode server, this release is mode agent" $name) -}}
{{- end -}}
{{- end -}}
{{- if or $v.exposure.kind $v.exposure.cloud -}}
{{- $wrong = append $wrong "exposure: belongs to mode server, this release is mode agent" -}}
{{- end -}}
{{- if $v.argocdServer.exposure.way -}}
{{- $wrong = append $wrong "argocdServer.exposure: belongs to mode server, this release is mode agent" -}}
{{- end -}}
{{- if or $v.gateway.create $v.gateway.parentRefs -}}
{{- $wrong = append $wrong "gateway: belongs to mode server, this release is mode agent" -}}
{{- end -}}
{{- if not $v.serverURL -}}
{{- $wrong = append $wrong "serverURL: expected the URL of the server's public port, such as wss://argotun.example.com/connect" -}}
{{- end -}}
{{- $proofs := list $v.token $v.existingSecret $v.serverToken.audience | compact -}}
{{- if not $proofs -}}
{{- $wrong = append $wrong "serverToken.audience: expected what this agent proves itself by: the audience that the server's entry names, or token, or existingSecret with the name of a Secret that holds one" -}}
{{- end -}}
{{- if gt (len $proofs) 1 -}}
{{- $wrong = append $wrong "serverToken.audience, token, existingSecret: expected only one of them" -}}
{{- end -}}
{{- if hasPrefix "ws://" $v.serverURL -}}
{{- if not $v.allowInsecureServer -}}
{{- $wrong = append $wrong "serverURL: expected a wss:// URL, or allowInsecureServer: true for a test without TLS" -}}
{{- end -}}
{{- if or (include "argotun.serverCASecret" .) (include "argotun.clientCertSecret" .) -}}
{{- $wrong = append $wrong "tls: a ws:// server verifies nothing and shows nothing, so tls.serverCASecret, tls.clientCertSecret and certManager have no meaning" -}}
{{- end -}}
{{- end -}}
{{- if contains "@" $v.proxy -}}
{{- $wrong = append $wrong "proxy: a user and password would be readable in the Deployment; put the line `proxy: …` into the config.yaml of configSecret" -}}
{{- end -}}
{{- $wrong = concat $wrong (include "argotun.check.policy" . | fromJsonArray) -}}
{{- if and $v.certManager.enabled (not $v.certManager.issuerRef.name) -}}
{{- $wrong = append $wrong "certManager.issuerRef.name: expected an issuer that the server trusts, since an agent has no CA of its own" -}}
{{- end -}}
{{- toJson $wrong -}}
{{- end -}}
