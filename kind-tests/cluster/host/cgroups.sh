# shellcheck shell=bash
# One cgroup above all pods, so that they can be found and removed as a whole.
# The kubelet wants it to exist, and knows it by node/config/kubelet.yaml. Sourced.

cgroup=dbbackup-cluster

make_cgroups() {
  local hierarchy
  if [[ -f /sys/fs/cgroup/cgroup.controllers ]]; then # version 2
    mkdir -p "/sys/fs/cgroup/$cgroup"
    # Children may only use what their parents hand down.
    enable_controllers /sys/fs/cgroup
    enable_controllers "/sys/fs/cgroup/$cgroup"
    return
  fi
  for hierarchy in /sys/fs/cgroup/*/; do
    [[ -f $hierarchy/tasks ]] || continue
    mkdir -p "$hierarchy/$cgroup"
  done
  # A new cpuset is empty, and would let nobody in.
  local file
  for file in cpuset.cpus cpuset.mems; do
    cat "/sys/fs/cgroup/cpuset/$file" >"/sys/fs/cgroup/cpuset/$cgroup/$file"
  done
}

enable_controllers() {
  local controller
  for controller in cpuset cpu io memory hugetlb pids; do
    ! grep -qw "$controller" "$1/cgroup.controllers" || echo "+$controller" >"$1/cgroup.subtree_control"
  done
}

cgroup_folders() {
  find /sys/fs/cgroup -depth -type d -path "*/$cgroup*" 2>/dev/null
}

# Children come before their parents. One that still holds a dying process cannot
# be removed, so this is tried until it works.
remove_cgroups() {
  local folder
  for folder in $(cgroup_folders); do
    rmdir "$folder" || return 1
  done
}
