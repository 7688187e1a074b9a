# shellcheck shell=bash
# The cluster where there is a container engine: kind. Sourced; needs paths.sh,
# hack/shell/engine.sh.
#
# Untested on this release, which was made on machines without a container engine:
# written by kind's documentation, its flags compared with the program's.

kind_cluster=dbbackup
kind_node=$kind_cluster-control-plane

kind_up() {
  say "kind with $engine: this way is untested on this release"
  offer kubectl "$(kubectl_of_the_machine)"
  mkdir -p "$state"
  touch "$state/$mark"
  if ! kind get clusters 2>/dev/null | grep -qx "$kind_cluster"; then
    say "creating the kind cluster $kind_cluster"
    kind create cluster --name "$kind_cluster" --config "$here/kind.yaml" --kubeconfig "$kubeconfig" --wait 3m
  fi
  kind get kubeconfig --name "$kind_cluster" >"$kubeconfig"
  # A cluster that is there need not run: the engine may have been stopped since.
  wait_until 60 apiserver_is_ready ||
    fail "the kind cluster $kind_cluster does not answer; $here/down removes it"
  kind_is_new_enough
  say "the kind cluster $kind_cluster is up"
}

# Not the one in $bin, which would then start itself, and not the function.
kubectl_of_the_machine() {
  local path=:$PATH:
  path=${path//:$bin:/:}
  PATH=$path type -P kubectl || fail "kind is used here, so kubectl must be installed (https://kubernetes.io/docs/tasks/tools)"
}

# The chart asks for this version too, but cannot know that kind chose the node's.
kind_is_new_enough() {
  local minor
  minor=$(kubectl get --raw /version | sed -n 's/.*"minor": *"\([0-9]*\).*/\1/p')
  ((minor >= 33)) || fail "the node of this kind is Kubernetes 1.$minor, and 1.33 is needed; a newer kind brings a newer one ($here/down removes this cluster)"
}

# kind_second_node: name of the second node. kind adds none to a cluster that runs.
kind_second_node() {
  local node=$kind_cluster-worker
  kind get nodes --name "$kind_cluster" | grep -x "$node" ||
    fail "the kind cluster $kind_cluster has no node $node: take it down and up again ($here/down, $here/up), which makes it with two"
}

kind_down() {
  kind delete cluster --name "$kind_cluster" --kubeconfig "$kubeconfig"
  [[ ! -f $state/$mark ]] || rm -rf "$state"
}
