# shellcheck shell=bash
# Images of the nodes, and where they come from. Sourced; needs paths.sh, kind.sh,
# hack/shell/engine.sh, hack/shell/buildah.sh.

# The host's client is enough for a local node: the socket is a file that both
# sides see. kind's node is a container. It asks the node that `choose_node` has chosen.
ctr() {
  if kind_is_used; then
    "$engine" exec "$kind_node" ctr --namespace k8s.io "$@"
  else
    command ctr --address "$containerd_socket" --namespace k8s.io "$@"
  fi
}

# built_id IMAGE: nothing if images/build has not made it.
built_id() {
  if kind_is_used; then
    "$engine" image inspect --format '{{.Id}}' "$1" 2>/dev/null || true
  else
    image_id "$1"
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

# loaded_images: names of those that load_image has brought.
loaded_images() {
  ctr images list --quiet "labels.\"$id_label\""
}

# copy_image IMAGE: from the first node, which has it, to the one that is chosen.
copy_image() {
  local id
  id=$(choose_node "$first_node" && loaded_id "$1")
  (choose_node "$first_node" && ctr images export - "$1") | ctr images import -
  ctr images label "$1" "$id_label=$id"
}

# load_image IMAGE ID ARCHIVE: by way of an archive, which both ways can read. (`kind
# load docker-image` asks docker, whatever the engine is.)
load_image() {
  if kind_is_used; then
    "$engine" save --output "$3" "$1"
    kind load image-archive "$3" --name "$kind_cluster"
  else
    buildah push "$1" "docker-archive:$3:$1"
    ctr images import - <"$3"
  fi
  ctr images label "$1" "$id_label=$2"
}
