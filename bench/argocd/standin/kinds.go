package main

import "strings"

type kind struct {
	group, version, plural, name string
	namespaced                   bool
}

func (k *kind) groupVersion() string {
	if k.group == "" {
		return k.version
	}
	return k.group + "/" + k.version
}

// kinds are those of Kubernetes 1.36 that can be listed and watched, in an order in which fewer make sense too.
var kinds = parse(`
/v1 namespaces Namespace -
/v1 configmaps ConfigMap n
/v1 secrets Secret n
/v1 services Service n
/v1 serviceaccounts ServiceAccount n
/v1 pods Pod n
apps/v1 deployments Deployment n
apps/v1 replicasets ReplicaSet n
apps/v1 statefulsets StatefulSet n
apps/v1 daemonsets DaemonSet n
batch/v1 jobs Job n
batch/v1 cronjobs CronJob n
networking.k8s.io/v1 ingresses Ingress n
rbac.authorization.k8s.io/v1 roles Role n
rbac.authorization.k8s.io/v1 rolebindings RoleBinding n
rbac.authorization.k8s.io/v1 clusterroles ClusterRole -
rbac.authorization.k8s.io/v1 clusterrolebindings ClusterRoleBinding -
apiextensions.k8s.io/v1 customresourcedefinitions CustomResourceDefinition -
/v1 persistentvolumeclaims PersistentVolumeClaim n
/v1 persistentvolumes PersistentVolume -
/v1 nodes Node -
/v1 events Event n
/v1 endpoints Endpoints n
/v1 limitranges LimitRange n
/v1 podtemplates PodTemplate n
/v1 replicationcontrollers ReplicationController n
/v1 resourcequotas ResourceQuota n
apps/v1 controllerrevisions ControllerRevision n
autoscaling/v2 horizontalpodautoscalers HorizontalPodAutoscaler n
networking.k8s.io/v1 ingressclasses IngressClass -
networking.k8s.io/v1 networkpolicies NetworkPolicy n
networking.k8s.io/v1 ipaddresses IPAddress -
networking.k8s.io/v1 servicecidrs ServiceCIDR -
policy/v1 poddisruptionbudgets PodDisruptionBudget n
storage.k8s.io/v1 csidrivers CSIDriver -
storage.k8s.io/v1 csinodes CSINode -
storage.k8s.io/v1 csistoragecapacities CSIStorageCapacity n
storage.k8s.io/v1 storageclasses StorageClass -
storage.k8s.io/v1 volumeattachments VolumeAttachment -
storage.k8s.io/v1 volumeattributesclasses VolumeAttributesClass -
scheduling.k8s.io/v1 priorityclasses PriorityClass -
coordination.k8s.io/v1 leases Lease n
node.k8s.io/v1 runtimeclasses RuntimeClass -
discovery.k8s.io/v1 endpointslices EndpointSlice n
events.k8s.io/v1 events Event n
admissionregistration.k8s.io/v1 mutatingwebhookconfigurations MutatingWebhookConfiguration -
admissionregistration.k8s.io/v1 validatingwebhookconfigurations ValidatingWebhookConfiguration -
admissionregistration.k8s.io/v1 validatingadmissionpolicies ValidatingAdmissionPolicy -
admissionregistration.k8s.io/v1 validatingadmissionpolicybindings ValidatingAdmissionPolicyBinding -
admissionregistration.k8s.io/v1 mutatingadmissionpolicies MutatingAdmissionPolicy -
admissionregistration.k8s.io/v1 mutatingadmissionpolicybindings MutatingAdmissionPolicyBinding -
apiregistration.k8s.io/v1 apiservices APIService -
flowcontrol.apiserver.k8s.io/v1 flowschemas FlowSchema -
flowcontrol.apiserver.k8s.io/v1 prioritylevelconfigurations PriorityLevelConfiguration -
certificates.k8s.io/v1 certificatesigningrequests CertificateSigningRequest -
resource.k8s.io/v1 deviceclasses DeviceClass -
resource.k8s.io/v1 resourceclaims ResourceClaim n
resource.k8s.io/v1 resourceclaimtemplates ResourceClaimTemplate n
resource.k8s.io/v1 resourceslices ResourceSlice -
`)

func parse(table string) []*kind {
	var found []*kind
	for line := range strings.Lines(strings.TrimSpace(table)) {
		words := strings.Fields(line)
		group, version, _ := strings.Cut(words[0], "/")
		found = append(found, &kind{group, version, words[1], words[2], words[3] == "n"})
	}
	return found
}

// documents are what an API says of itself, by path.
func documents(served []*kind) map[string]any {
	found := map[string]any{
		"/version": map[string]any{
			"major": "1", "minor": "36", "gitVersion": "v1.36.3", "platform": "bench/stand-in",
		},
		"/api": map[string]any{"kind": "APIVersions", "versions": []string{"v1"}},
	}
	var groups []any
	lists := map[string][]any{}
	var order []*kind
	for _, k := range served {
		gv := k.groupVersion()
		if _, known := lists[gv]; !known {
			order = append(order, k)
		}
		lists[gv] = append(lists[gv], map[string]any{
			"name": k.plural, "singularName": strings.ToLower(k.name), "namespaced": k.namespaced,
			"kind": k.name, "verbs": verbs,
		})
	}
	for _, k := range order {
		gv, path := k.groupVersion(), "/apis/"+k.groupVersion()
		if k.group == "" {
			path = "/api/" + gv
		} else {
			version := map[string]any{"groupVersion": gv, "version": k.version}
			groups = append(groups, map[string]any{
				"name": k.group, "versions": []any{version}, "preferredVersion": version,
			})
		}
		found[path] = map[string]any{
			"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": gv, "resources": lists[gv],
		}
	}
	found["/apis"] = map[string]any{"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
	return found
}

var verbs = []string{"create", "delete", "get", "list", "patch", "update", "watch"}

// aggregated is the answer to /api and /apis for clients that want all of discovery in one document.
func aggregated(served []*kind, core bool) any {
	var items []any
	place := map[string]int{}
	for _, k := range served {
		if (k.group == "") != core {
			continue
		}
		scope := "Cluster"
		if k.namespaced {
			scope = "Namespaced"
		}
		resource := map[string]any{
			"resource":         k.plural,
			"responseKind":     map[string]any{"group": k.group, "version": k.version, "kind": k.name},
			"scope":            scope,
			"singularResource": strings.ToLower(k.name),
			"verbs":            verbs,
		}
		at, known := place[k.group]
		if !known {
			at = len(items)
			place[k.group] = at
			version := map[string]any{"version": k.version, "freshness": "Current", "resources": []any{}}
			metadata := map[string]any{}
			if k.group != "" {
				metadata["name"] = k.group
			}
			items = append(items, map[string]any{"metadata": metadata, "versions": []any{version}})
		}
		// Each group has one version here.
		version := items[at].(map[string]any)["versions"].([]any)[0].(map[string]any)
		version["resources"] = append(version["resources"].([]any), resource)
	}
	return map[string]any{
		"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2",
		"metadata": map[string]any{}, "items": items,
	}
}
