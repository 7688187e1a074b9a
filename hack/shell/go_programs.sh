# shellcheck shell=bash
# Builds programs from Go modules, into the cache. Sourced; needs say.sh and cache.sh.

# build_go_module NAME SOURCE LDFLAGS PACKAGE...: sets $folder, where each program
# has the name of its package's last part (of the module itself for `.`).
build_go_module() {
  local name=$1 source=$2 ldflags=$3 sources
  shift 3
  command -v go >/dev/null || fail "Go 1.24 or newer is needed (https://go.dev/dl)"
  mapfile -t sources < <(find "$source" -name '*.go' -o -name 'go.mod' -o -name 'go.sum' | sort)
  cached_folder "$name" "$(key_of "$(go version)" "$ldflags" "$@" "${sources[@]}")" \
    compile_go_module "$name" "$source" "$ldflags" "$@"
}

compile_go_module() {
  local name=$1 source=$2 ldflags=$3 packages=("${@:4:$#-4}") output=${!#}
  say "building $name (the first time takes minutes; log: $cache/log/build-$name.log)"
  # Static programs run in any image. Without nice, the machine of whoever waits
  # here would be of no use for anything else.
  run_logged "$cache/log/build-$name.log" env CGO_ENABLED=0 nice -n 5 \
    go build -C "$source" -buildvcs=false -trimpath -ldflags "-s -w $ldflags" -o "$output/" "${packages[@]}"
}
