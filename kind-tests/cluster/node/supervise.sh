# shellcheck shell=bash
# Keeps components running, and waits for what one needs of another. Sourced by init.

# supervise COMPONENT: runs run/COMPONENT, again and again if it ends.
supervise() {
  while true; do
    "$here/run/$1" >>"$log/$1.log" 2>&1 </dev/null || true
    printf '%(%T)T %s ended; starting it again\n' -1 "$1" >>"$log/init.log"
    sleep 1
  done &
}

# wait_for WHAT COMMAND...: goes on when the command is true. It sets no limit:
# the host's script watches the whole start, and knows whose log to show.
wait_for() {
  printf '%(%T)T waiting for %s\n' -1 "$1" >>"$log/init.log"
  until "${@:2}" >/dev/null 2>&1; do
    sleep 0.2
  done
}
