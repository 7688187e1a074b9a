# shellcheck shell=bash
# buildah with a storage of its own in the cache. Sourced; needs say.sh, cache.sh.

# Without namespaces and without a running service: RUN needs no more than a chroot.
buildah() {
  BUILDAH_ISOLATION=chroot command buildah \
    --root "$cache/buildah/storage" --runroot "$cache/buildah/run" --storage-driver overlay "$@"
}

# image_id IMAGE: nothing if it has not been built.
image_id() {
  buildah images --quiet --no-trunc "$1" 2>/dev/null
}
