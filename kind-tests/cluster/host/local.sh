# shellcheck shell=bash
# The cluster without a container engine: `up` and `down`. Sourced.

local_up() {
  need_root "a cluster without a container engine"
  exec 9>"$cache/cluster.lock"
  flock 9
  if cluster_is_healthy || cluster_recovers; then
    say "the cluster is running already"
    return
  fi

  need_packages containerd runc containernetworking-plugins iptables conntrack iproute2 openssl procps
  build_kubebox && kubebox=$folder
  build_addons && addons=$folder
  build_pause_image && pause=$folder
  offer kubectl "$kubebox/kubebox" kubectl

  if [[ -e $state ]]; then
    say "removing what is left of an earlier cluster"
    remove_cluster
  fi
  say "starting a node with Kubernetes $("$bin/kubectl" version --client | awk '/^Client/ { print $3 }')"
  mkdir -p "$state"
  touch "$state/$mark"
  # A copy: the cluster may outlive the checkout that brings it up.
  cp -a "$here/node" "$state/scripts"
  provide_parts "$state/scripts" "$kubebox" "$addons" "$pause"
  save_sysctls
  make_cgroups
  make_credentials
  start_node
  wait_for_cluster
  run_logged "$state/manifests.log" kubectl apply -f "$here/manifests"
  say "the cluster is up"
}

# provide_parts SCRIPTS KUBEBOX ADDONS PAUSE
provide_parts() {
  provide node "$1"
  provide kubebox "$2"
  provide addons "$3"
  provide pause "$4"
}

# A component that died is started again within a second, and then needs some more.
# That is not worth the loss of what people have in the cluster.
cluster_recovers() {
  node_process >/dev/null || return 1
  say "the cluster is running, but not healthy; waiting for it to recover"
  wait_until 30 cluster_is_healthy
}

local_down() {
  need_root "removing the cluster"
  exec 9>"$cache/cluster.lock"
  flock 9
  remove_cluster
  local leftovers
  leftovers=$(list_leftovers)
  if [[ -n $leftovers ]]; then
    printf '%s\n' "$leftovers" >&2
    fail "this stayed behind"
  fi
  say "the cluster is down, and nothing of it is left but the caches in $cache"
}

# Also removes what a crash left of one.
remove_cluster() {
  local node
  for node in "$second_node" "$first_node"; do
    choose_node "$node"
    stop_node
  done
  restore_sysctls
  ip link del "$interface" 2>/dev/null || true
  wait_until 20 remove_cgroups "$cgroup" || say "the cgroups cannot be removed yet"
  [[ -e $state ]] || return 0
  # The folder's name can come from the environment: only what `up` has made is
  # deleted, and never anything through a mount.
  [[ -f $state/$mark ]] || fail "$state was not made by this script; delete it by hand"
  rm -rf --one-file-system "$state"
}

# Each condition names the component that is to blame if it does not come true.
wait_for_cluster() {
  wait_until 60 apiserver_is_ready || start_fails "$(awaited_component)" "the API server is not ready"
  wait_until 60 accounts_are_ready || start_fails kube-controller-manager "service accounts are not made"
  wait_until 60 node_is_ready || start_fails kubelet "the node is not ready"
  wait_until 60 proxy_is_ready || start_fails kube-proxy "services are not reachable"
  wait_until 60 dns_is_ready || start_fails dns "names are not resolved"
}

# What node/init is waiting for.
awaited_component() {
  local component
  component=$(sed -n 's/.* waiting for //p' "$state/var/log/cluster/init.log" | tail -n 1)
  [[ -f $state/var/log/cluster/$component.log ]] && echo "$component" || echo init
}
