# shellcheck shell=bash
# Images of the node. Sourced; needs paths.sh.

# The host's client is enough: the socket is a file that both sides see.
ctr() {
  command ctr --address "$containerd_socket" --namespace k8s.io "$@"
}
