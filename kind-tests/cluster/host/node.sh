# shellcheck shell=bash
# The node: a process tree in namespaces of its own (mounts, processes, network,
# IPC, host name), as a container would be. Sourced; needs paths.sh, addresses.sh.

# provide PART FOLDER: the folder will be the node's /var/lib/cluster/PART.
provide() {
  mkdir -p "$state/parts" "$state/var/lib/cluster/$1"
  ln -sfn "$2" "$state/parts/$1"
}

# start_node: runs node/init, and plugs the cable in.
start_node() {
  mkdir -p "$state/run" "$state"/var/{tmp,lib/volumes,log/cluster}
  chmod 1777 "$state/var/tmp"

  (
    close_inherited
    NODE_NAME=$node_name NODE_ADDRESS=$node_address \
      exec setsid unshare --mount --net --pid --uts --ipc --fork --kill-child \
      "$state/scripts/init" "$state"
  ) >"$state/var/log/cluster/init.log" 2>&1 </dev/null &
  printf '%s %s\n' "$!" "$(start_time "$!")" >"$state/process"
  wait_until 10 node_init || start_fails init "the node's first process did not start"

  ip link add "$host_interface" type veth peer name eth0 netns "$(node_init)"
  ip addr add "$host_address/30" dev "$host_interface"
  ip link set "$host_interface" up
}

# Whatever is open but the three usual ones: the lock of `up`, and that of whoever called
# it (`flock FILE up`), would be held for as long as the node lives.
close_inherited() {
  local descriptor
  for descriptor in "/proc/$BASHPID/fd/"*; do
    descriptor=${descriptor##*/}
    ((descriptor < 3)) || exec {descriptor}>&-
  done
}

# A process id alone could be somebody else's by now (after a reboot, say).
start_time() {
  cut -d ' ' -f 22 "/proc/$1/stat"
}

node_process() {
  local process started
  [[ -f $state/process ]] && read -r process started <"$state/process" || return 1
  [[ -d /proc/$process && $(start_time "$process") == "$started" ]] || return 1
  echo "$process"
}

# The first process inside, by its id outside.
node_init() {
  local process init
  process=$(node_process) || return 1
  # The file has no end of line, which `read` takes for a failure.
  read -r init _ <"/proc/$process/task/$process/children" || [[ -n $init ]] || return 1
  echo "$init"
}

# With the first process inside, the kernel kills all that is in its namespaces;
# `unshare` ends when that is done.
stop_node() {
  local process
  process=$(node_process) || return 0
  kill -KILL "$(node_init || echo "$process")"
  wait_until 60 process_is_gone "$process" || fail "the node's processes do not end (first process: $process)"
}

process_is_gone() {
  [[ ! -d /proc/$1 ]]
}

start_fails() {
  show_end_of "$state/var/log/cluster/$1.log"
  fail "$2"
}
