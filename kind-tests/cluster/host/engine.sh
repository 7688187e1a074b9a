# shellcheck shell=bash
# Which of the two ways to a cluster this machine offers. Sourced.

# A client without an engine behind it (as in many build images) does not count.
container_engine_works() {
  command -v docker >/dev/null && timeout 20 docker info >/dev/null 2>&1
}
