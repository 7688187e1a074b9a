# shellcheck shell=bash
# What the node sees of the file system: the host's programs and libraries, but a
# /var, a /run and a /proc of its own. So every component can use its usual paths,
# none leaves anything on the host, and a containerd of the host is not disturbed.
# Sourced by init.

# enter_private_folders STATE: STATE/var and STATE/run become /var and /run.
# What is outside of the state but needed is bound to STATE/var/lib/cluster first,
# because it could lie in the host's /var.
enter_private_folders() {
  local state=$1 part
  mount -t proc proc /proc
  for part in node kubebox addons pause; do
    mount --bind "$(readlink -f "$state/parts/$part")" "$state/var/lib/cluster/$part"
  done
  mount --bind "$state/run" /run
  mount --rbind "$state/var" /var
  # The kubelet's mounts must reach the containers' namespaces.
  mount --make-rshared /
  cd /
}
