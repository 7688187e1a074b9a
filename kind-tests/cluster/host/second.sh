# shellcheck shell=bash
# A second node, for scenarios that take it away. Sourced; needs all the others.

second_add() {
  if kind_is_used; then
    node_name=$(kind_second_node)
    wait_until 60 node_is_ready || fail "$node_name is not ready"
    return
  fi
  need_root "a second node"
  exec 9>"$cache/cluster.lock"
  flock 9
  cluster_is_healthy || fail "no cluster is running here; start it with $here/up"
  local image kubebox addons pause
  kubebox=$(readlink -f "$state/parts/kubebox")
  addons=$(readlink -f "$state/parts/addons")
  pause=$(readlink -f "$state/parts/pause")
  choose_node "$second_node"
  if node_process >/dev/null && node_is_ready >/dev/null 2>&1; then
    say "$second_node is there already"
    return
  fi
  remove_second
  say "adding $second_node"
  mkdir -p "$node_state"
  provide_parts "$state/scripts" "$kubebox" "$addons" "$pause"
  make_cgroups
  make_node_credentials
  start_node
  wait_until 60 node_is_ready || start_fails kubelet "the node $second_node is not ready"
  for image in $(choose_node "$first_node" && loaded_images); do
    run_logged "$cache/log/load-image.log" copy_image "$image"
  done
  say "$second_node is there"
}

# It goes away without a word; see freeze_node.
second_stop() {
  if kind_is_used; then
    "$engine" pause "$(kind_second_node)" >/dev/null
  else
    second_must_run
    freeze_node
  fi
}

# What was stopped comes back.
second_start() {
  if kind_is_used; then
    node_name=$(kind_second_node)
    "$engine" unpause "$node_name" >/dev/null
  else
    second_must_run
    thaw_node
  fi
  wait_until 60 node_is_ready || fail "$node_name does not come back"
}

second_remove() {
  if kind_is_used; then
    # kind's nodes come and go with the cluster. A kubelet that starts anew makes its object again.
    node_name=$(kind_second_node)
    "$engine" unpause "$node_name" >/dev/null 2>&1 || true
    "$engine" restart "$node_name" >/dev/null
    return
  fi
  need_root "removing a node"
  exec 9>"$cache/cluster.lock"
  flock 9
  choose_node "$second_node"
  remove_second
  say "$second_node is gone"
}

# Also removes what a crash left of it.
remove_second() {
  stop_node
  # The kernel takes a network away a little after its last process.
  at_other_end ip link del "$interface" 2>/dev/null || true
  kubectl delete node "$second_node" --ignore-not-found >/dev/null
  wait_until 20 remove_cgroups "$cgroup/$second_node" || say "the cgroups of $second_node cannot be removed yet"
  rm -rf --one-file-system "$node_state"
}

# Whether there is a second node that the first one's images must be brought to: kind
# does that by itself.
second_runs() {
  ! kind_is_used && (choose_node "$second_node" && node_process >/dev/null)
}

second_must_run() {
  need_root "stopping a node"
  choose_node "$second_node"
  node_process >/dev/null || fail "there is no second node; add it with $here/second-node add"
}
