# shellcheck shell=bash
# What a cluster could leave on the machine, and whether it did. Sourced; needs
# paths.sh, addresses.sh, cgroups.sh.

# Prints a line for each thing that stayed.
list_leftovers() {
  list_node_processes
  awk -v state="$state" 'index($5, state) == 1 { print "mount " $5 }' /proc/self/mountinfo
  ! ip link show "$interface" >/dev/null 2>&1 || echo "interface $interface"
  cgroup_folders "$cgroup" | grep "/$cgroup$" | sed 's/^/cgroup /' || true
  [[ ! -e $state ]] || echo "folder $state"
  # Rules belong into the node's own network namespace.
  local table
  for table in filter nat mangle; do
    iptables -w -t "$table" -S 2>/dev/null | grep -E 'KUBE-|CNI-' | sed "s/^/iptables $table /" || true
  done || true
}

# The first process of a node has its folder as an argument. While it lives the others
# may; without it the kernel lets none of them.
list_node_processes() {
  local arguments
  grep -lzFx -e "$state" -e "$state/$second_node" /proc/[0-9]*/cmdline 2>/dev/null | while read -r arguments; do
    ! grep -qzE '/node/init$' "$arguments" 2>/dev/null || echo "process ${arguments//[!0-9]/}"
  done || true
}
