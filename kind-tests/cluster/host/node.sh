# shellcheck shell=bash
# A node: a process tree in namespaces of its own (mounts, processes, network,
# IPC, host name), as a container would be. Sourced; needs paths.sh, addresses.sh.
# All of it is about the node that `choose_node` has chosen.

# provide PART FOLDER: the folder will be the node's /var/lib/cluster/PART.
provide() {
  mkdir -p "$node_state/parts" "$node_state/var/lib/cluster/$1"
  ln -sfn "$2" "$node_state/parts/$1"
}

# start_node: runs node/init, and plugs the cable in.
start_node() {
  mkdir -p "$node_state/run" "$node_state"/var/{tmp,lib/volumes,log/cluster}
  chmod 1777 "$node_state/var/tmp"

  (
    close_inherited
    NODE_NAME=$node_name NODE_ROLE=$node_role NODE_ADDRESS=$node_address \
      GATEWAY=$gateway NODE_ROUTES=$node_routes \
      FIRST_POD_ADDRESS=${pod_addresses[0]} LAST_POD_ADDRESS=${pod_addresses[1]} \
      exec setsid unshare --mount --net --pid --uts --ipc --fork --kill-child \
      "$state/scripts/init" "$node_state"
  ) >"$node_state/var/log/cluster/init.log" 2>&1 </dev/null &
  printf '%s %s\n' "$!" "$(start_time "$!")" >"$node_state/process"
  wait_until 10 node_init || start_fails init "the node's first process did not start"

  at_other_end ip link add "$interface" type veth peer name eth0 netns "$(node_init)"
  at_other_end ip addr add "$gateway/30" dev "$interface"
  plug_in
}

# at_other_end COMMAND...: where the other end of the cable is: on the host, or in the
# network of the first node.
at_other_end() {
  if [[ $node_name == "$first_node" ]]; then
    "$@"
  else
    nsenter --target "$(choose_node "$first_node" && node_init)" --net -- "$@"
  fi
}

plug_in() {
  at_other_end ip link set "$interface" up
  # An interface that goes down loses its routes. The host needs none: pods call it, and
  # it calls none of them.
  [[ $node_name == "$first_node" ]] || at_other_end ip route replace "$pods" via "$node_address"
}

# The node goes away as one does whose power or network fails: nobody is told, no
# connection is closed, and whatever ran there is in the middle of something.
freeze_node() {
  at_other_end ip link set "$interface" down
  signal_all STOP
}

# It comes back, and whatever ran there goes on as if nothing had been.
thaw_node() {
  signal_all CONT
  plug_in
}

# signal_all SIGNAL: to all processes of the node but the first, pods included.
signal_all() {
  nsenter --target "$(node_init)" --pid -- sh -c "kill -$1 -1"
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
  [[ -f $node_state/process ]] && read -r process started <"$node_state/process" || return 1
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
  show_end_of "$node_state/var/log/cluster/$1.log"
  fail "$2"
}
