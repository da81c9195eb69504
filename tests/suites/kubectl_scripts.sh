#!/usr/bin/env bash
# Kubernetes' test/cmd against an API that is there: what hack/make-rules/test-cmd.sh does, without its builds and
# its control plane. Runs in a copy of Kubernetes' sources; SUITES_SERVER is the API's URL, SUITES_FLAGS what kubectl
# needs beside it, WHAT the cases, or empty for all.
set -o errexit
set -o nounset
set -o pipefail

source hack/lib/init.sh
source hack/lib/test.sh
source test/cmd/legacy-script.sh
eval "$(sed -n '/^function create_node/,/^__EOF__/p' hack/make-rules/test-cmd.sh)"$'\n}'

cleanup() {
  stop-proxy
  rm -rf "${KUBE_TEMP}"
}
kube::util::trap_add cleanup EXIT
kube::util::ensure-temp-dir
HOME="${KUBE_TEMP}"
kube::util::ensure-gnu-sed

CONTEXT=test
read -r -a flags <<<"${SUITES_FLAGS}"
kubectl config set-credentials test-admin --token admin-token "${flags[@]}"
kubectl config set-cluster local --insecure-skip-tls-verify --server "${SUITES_SERVER}"
kubectl config set-context "${CONTEXT}" --user test-admin --cluster local
kubectl config use-context "${CONTEXT}"

create_node
export SUPPORTED_RESOURCES=("*")
runTests
