# shellcheck shell=bash
# Images with a container engine: the Dockerfile as it stands, with bases and packages
# from the network. Sourced; needs parts.sh and target.sh.

prepare_engine() {
  say "building images with $engine (untested on this release: it was made without a container engine)"
}

own_image_by_engine() {
  say "building $2"
  "$engine" build --target "$1" --build-arg "PROFILE=$profile" --tag "$2" "${DBBACKUP_SOURCE:-$project}"
}

postgres_image_by_engine() {
  say "building $1"
  "$engine" build --tag "$1" --file "$images/postgres/Containerfile" "$images/postgres"
}

# An engine has images of others too, which are not ours to clear away.
tidy_engine() {
  :
}
