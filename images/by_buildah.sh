# shellcheck shell=bash
# Images without a container engine and without an image registry: buildah, bases from
# Debian's packages, and programs that are built here. Sourced; needs parts.sh, target.sh.

# shellcheck source=hack/shell/buildah.sh
source "$shell/buildah.sh"
# shellcheck source=images/debian.sh
source "$images/debian.sh"

prepare_buildah() {
  build_base_images
  if [[ " $* " == *" operator "* || " $* " == *" runner "* ]]; then
    "$images/build-binaries"
  fi
}

# buildah_build IMAGE CONTEXT ARGUMENT...: the time stamp is fixed so that the same
# content gives the same image, which then need not be loaded again.
buildah_build() {
  say "building $1"
  run_logged "$cache/log/image-$(basename "$1").log" \
    buildah build --layers --pull-never --timestamp 0 --tag "$1" "${@:3}" "$2"
}

# The final stages of the Dockerfile, that of the state of the project which is built. Our own
# programs stand alone in a folder: the one where cargo leaves them holds gigabytes of other
# things.
own_image_by_buildah() {
  local source=${DBBACKUP_SOURCE:-$project}
  draft=$(mktemp -d "$cache/.draft-context-XXXXXX")
  ln "$binaries_folder/dbbackup-$1" "$draft/"
  if [[ $1 == runner && -d $source/shim ]]; then
    ln "$shim_binary" "$draft/"
  fi
  buildah_build "$2" "$source" --file "$source/Dockerfile" --target "$1" \
    --build-context "programs=$draft" --build-arg "CLIENTS=debian ${debian_clients[*]}" \
    --build-arg "OPERATOR_BASE=$minimal_image" --build-arg "RUNNER_BASE=$debian_image"
  rm -r "$draft"
}

postgres_image_by_buildah() {
  buildah_build "$1" "$images/postgres" --build-arg "BASE=$debian_image" --file "$images/postgres/Containerfile"
}

# What the new images have replaced.
tidy_buildah() {
  run_logged "$cache/log/image-prune.log" buildah rmi --prune
}
