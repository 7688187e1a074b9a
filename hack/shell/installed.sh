# shellcheck shell=bash
# The operator on the cluster of this machine. Sourced; needs say.sh and cache.sh.

# The cluster that KUBECONFIG names, else the one of kind-tests/cluster.
export KUBECONFIG="${KUBECONFIG:-$cache/cluster/kubeconfig}"
export PATH="$cache/bin:$PATH"

# Brings the images into the cluster and installs the chart, or upgrades it. Pods of
# an older image are replaced: the tag of an image in development never changes.
install_operator() {
  kind-tests/cluster/load-image localhost/dbbackup-{operator,runner}:dev localhost/postgres:17
  say "installing the operator by its chart"
  run_logged "$cache/log/helm-install.log" kind-tests/cluster/helm upgrade --install dbbackup charts/dbbackup \
    --namespace dbbackup --create-namespace \
    --set images.operator.repository=localhost/dbbackup-operator,images.operator.tag=dev \
    --set images.runner.repository=localhost/dbbackup-runner,images.runner.tag=dev
  kubectl --namespace dbbackup rollout restart deploy/dbbackup >/dev/null
  kubectl --namespace dbbackup rollout status deploy/dbbackup --timeout 120s
}

# wait_for NAMESPACE OBJECT CONDITION SECONDS: shows the object if it takes too long.
wait_for() {
  if ! kubectl --namespace "$1" wait "$2" --for "condition=$3" --timeout "$4s"; then
    kubectl --namespace "$1" describe "$2" >&2
    fail "$2 is not $3 after $4 seconds"
  fi
}
