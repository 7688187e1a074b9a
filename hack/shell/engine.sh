# shellcheck shell=bash
# Which of the two ways this machine offers: a container engine, with kind on it, or
# buildah and a node of our own. Sourced; needs say.sh.

# Nobody's but ours.
unset -v engine

# kind_is_used: whether an engine answers and kind is there to use it; sets $engine.
kind_is_used() {
  [[ -n ${engine+asked} ]] || find_engine
  [[ -n $engine ]]
}

# A client without an engine behind it (as in many build images) does not count.
engine_answers() {
  command -v "$1" >/dev/null && timeout 20 "$1" info >/dev/null 2>&1
}

find_engine() {
  local name
  engine=
  for name in docker podman; do
    if engine_answers "$name"; then
      if command -v kind >/dev/null; then
        engine=$name
      else
        say "$name works here, but kind (https://kind.sigs.k8s.io) is not installed: doing without both"
      fi
      break
    fi
  done
  [[ $engine != podman ]] || export KIND_EXPERIMENTAL_PROVIDER=podman
  # Docker before 23 has another builder, which knows no cache mounts, unless told so.
  export DOCKER_BUILDKIT=1
}
