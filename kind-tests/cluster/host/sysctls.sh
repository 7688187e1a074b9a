# shellcheck shell=bash
# The kubelet sets a few of the kernel's values for the whole machine. They are
# written down before, and put back after. Sourced; needs paths.sh.

kubelet_sysctls=(vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops
  kernel.keys.root_maxkeys kernel.keys.root_maxbytes)

save_sysctls() {
  sysctl "${kubelet_sysctls[@]}" >"$state/sysctls"
}

restore_sysctls() {
  [[ ! -f $state/sysctls ]] || sysctl -q --load="$state/sysctls" >/dev/null
}
