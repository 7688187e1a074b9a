# shellcheck shell=bash
# One cgroup above all pods, so that they can be found and removed as a whole, and one
# in it for each node: a kubelet removes what it finds below its own and does not know.
# The kubelet wants it to exist, and knows it by node/run/kubelet. Sourced; needs
# addresses.sh.

cgroup=dbbackup-cluster

make_cgroups() {
  local hierarchy mine=$cgroup/$node_name
  if [[ -f /sys/fs/cgroup/cgroup.controllers ]]; then # version 2
    mkdir -p "/sys/fs/cgroup/$mine"
    # Children may only use what their parents hand down.
    enable_controllers /sys/fs/cgroup
    enable_controllers "/sys/fs/cgroup/$cgroup"
    enable_controllers "/sys/fs/cgroup/$mine"
    return
  fi
  for hierarchy in /sys/fs/cgroup/*/; do
    [[ -f $hierarchy/tasks ]] || continue
    mkdir -p "$hierarchy/$mine"
  done
  # A new cpuset is empty, and would let nobody in.
  local folder file
  for folder in "$cgroup" "$mine"; do
    for file in cpuset.cpus cpuset.mems; do
      cat "/sys/fs/cgroup/cpuset/$file" >"/sys/fs/cgroup/cpuset/$folder/$file"
    done
  done
}

enable_controllers() {
  local controller
  for controller in cpuset cpu io memory hugetlb pids; do
    ! grep -qw "$controller" "$1/cgroup.controllers" || echo "+$controller" >"$1/cgroup.subtree_control"
  done
}

# cgroup_folders CGROUP
cgroup_folders() {
  find /sys/fs/cgroup -depth -type d -path "*/$1*" 2>/dev/null
}

# Children come before their parents. One that still holds a dying process cannot
# be removed, so this is tried until it works.
#
# remove_cgroups CGROUP
remove_cgroups() {
  local folder
  for folder in $(cgroup_folders "$1"); do
    rmdir "$folder" || return 1
  done
}
