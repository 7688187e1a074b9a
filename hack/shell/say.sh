# shellcheck shell=bash
# What the scripts tell the person who runs them. Sourced.

say() {
  printf '==> %s\n' "$*"
}

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# show_end_of LOG: the last lines of a log, for the moment something broke.
show_end_of() {
  printf -- '--- the end of %s\n' "$1" >&2
  tail -n "${2:-20}" "$1" >&2 || true
  printf -- '---\n' >&2
}

# run_logged LOG COMMAND...: runs quietly, and speaks only if it fails.
run_logged() {
  local log=$1
  shift
  mkdir -p "$(dirname "$log")"
  if ! "$@" >"$log" 2>&1 </dev/null; then
    show_end_of "$log"
    fail "'$*' failed"
  fi
}

# wait_until SECONDS COMMAND...: false if the command is not true in time.
wait_until() {
  local limit=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < limit)) || return 1
    sleep 0.25
  done
}
