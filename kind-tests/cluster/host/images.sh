# shellcheck shell=bash
# Images of the node. Sourced; needs paths.sh, engine.sh, kind.sh.

# The host's client is enough for a local node: the socket is a file that both
# sides see. kind's node is a container.
ctr() {
  if container_engine_works; then
    docker exec --interactive "$kind_cluster-control-plane" ctr --namespace k8s.io "$@"
  else
    command ctr --address "$containerd_socket" --namespace k8s.io "$@"
  fi
}

# containerd knows an image by the digest of its manifest, which differs from one
# archive to the next; the id (the digest of the configuration) stays the same if
# nothing has changed. So the id is written to the image as a label.
id_label=dbbackup.dev/id

# loaded_id IMAGE: nothing if the image is not loaded.
loaded_id() {
  ctr images list "name==$1" | grep -oE "$id_label=[^, ]+" | cut -d = -f 2 || true
}

# load_archive IMAGE ID ARCHIVE
load_archive() {
  ctr images import - <"$3"
  ctr images label "$1" "$id_label=$2"
}
