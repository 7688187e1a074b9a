# shellcheck shell=bash
# The cluster where there is a container engine: kind. Sourced; needs paths.sh.

kind_cluster=dbbackup

need_kind() {
  command -v kind >/dev/null || fail "docker works here, so kind is used, but it is not installed (https://kind.sigs.k8s.io)"
  command -v kubectl >/dev/null || fail "kubectl is not installed"
}

kind_up() {
  need_kind
  mkdir -p "$state"
  touch "$state/$mark"
  if ! kind get clusters 2>/dev/null | grep -qx "$kind_cluster"; then
    say "creating the kind cluster $kind_cluster"
    kind create cluster --name "$kind_cluster" --kubeconfig "$kubeconfig" --wait 3m
  fi
  kind get kubeconfig --name "$kind_cluster" >"$kubeconfig"
  offer kubectl "$(command -v kubectl)"
  say "the kind cluster $kind_cluster is up"
}

kind_down() {
  need_kind
  kind delete cluster --name "$kind_cluster" --kubeconfig "$kubeconfig"
  [[ ! -f $state/$mark ]] || rm -rf "$state"
}
