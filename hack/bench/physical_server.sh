# shellcheck shell=bash
# A PostgreSQL server of Debian's newest with pgBackRest beside it, and what was measured on it
# as a table. Sourced; needs hack/shell/project.sh.

postgresql=18 port=54935
# A row of hack/bench/first-day.sql takes about so many bytes in the data folder.
row_bytes=600

# need_server MEGABYTES: sets $root, a Debian system with the programs, and $data, a data folder
# of about that size, with checksums, and $by_server, the command that runs a program as the server does.
need_server() {
  need_root "running a PostgreSQL server"
  cached_folder bench-physical "$(key_of "$(declare -f fetch_server_system)")" fetch_server_system
  root=$folder
  by_server=(chroot "$root" setpriv --reuid=postgres --regid=postgres --clear-groups --pdeathsig=INT
    env "PATH=/usr/lib/postgresql/$postgresql/bin:/usr/bin:/bin")
  cached_folder bench-physical-data "$(key_of "$1" "$postgresql" "$row_bytes" hack/bench/first-day.sql \
    "$(declare -f make_server_data)")" make_server_data "$1"
  data=$folder/data
  server_user=$(chroot "$root" id --user postgres):$(chroot "$root" id --group postgres)
}

# fetch_server_system FOLDER
fetch_server_system() {
  say "fetching Debian sid with PostgreSQL $postgresql and pgBackRest (some minutes, once)"
  need_packages debootstrap
  run_logged "$cache/log/debootstrap-bench-physical.log" nice -n 5 \
    debootstrap --variant=minbase --include="postgresql-$postgresql,pgbackrest" sid "$1"
  rm -rf "$1"/var/cache/apt/archives/*.deb
}

# make_server_data MEGABYTES FOLDER
make_server_data() {
  local output=$2 rows=$(($1 * 1000000 / row_bytes))
  work=$(mktemp -d "$root/var/tmp/bench-data.XXXXXX")
  inside=/var/tmp/$(basename "$work")
  say "a server of $1 MB"
  chmod 755 "$work"
  mkdir --mode 700 "$work/server"
  echo secret >"$work/password"
  chown -R "$(chroot "$root" id --user postgres)" "$work"
  run_logged "$cache/log/bench-physical-initdb.log" in_server initdb --no-sync --data-checksums --auth scram-sha-256 \
    --auth-local trust --username postgres --encoding UTF8 --locale C.UTF-8 --pwfile "$inside/password" \
    --pgdata "$inside/server"
  cat >>"$work/server/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
dynamic_shared_memory_type = mmap
fsync = off
autovacuum = off
jit = off
shared_buffers = 256MB
min_wal_size = 32MB
max_wal_size = 256MB
summarize_wal = on
# Nobody checks what would be archived; pgBackRest wants it on.
archive_mode = on
archive_command = 'true'
CONF
  start_server
  cp hack/bench/first-day.sql "$work/first-day.sql"
  run_logged "$cache/log/bench-physical-data.log" in_server psql --host "$inside" --port "$port" --username postgres \
    --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set "rows=$rows" --file "$inside/first-day.sql"
  stop_server
  mv "$work/server" "$output/data"
  rm -rf "$work"
}

# begin_server: the data folder's own copy runs, at $inside/server.
begin_server() {
  cp -a "$data" "$work/server"
  chown "$server_user" "$work"
  start_server
}

# in_server PROGRAM ARGUMENT...: as its user, inside of its system.
in_server() { "${by_server[@]}" "$@"; }

# start_server: sets $server, its process.
start_server() {
  # No function: its process would be another.
  "${by_server[@]}" postgres -D "$inside/server" -p "$port" -c "unix_socket_directories=$inside" \
    >>"$work/log" 2>&1 </dev/null &
  server=$!
  wait_until 60 in_server psql --host "$inside" --port "$port" --username postgres --no-psqlrc --command 'SELECT 1' ||
    fail "PostgreSQL does not start: $(tail -n 5 "$work/log")"
}

# stop_server: by a fast shutdown, which waits for a checkpoint.
stop_server() {
  [[ -n ${server:-} ]] || return 0
  kill -INT "$server" 2>/dev/null || true
  wait "$server" || true
  server=
}

versions() {
  printf 'dbbackup %s, %s, %s' "$("$runner" --version | awk '{ print $NF }')" \
    "$(in_server pg_basebackup --version | awk '{ print $1, $3 }')" "$(in_server pgbackrest version)"
}

# One line a step and measure; the ratios are of our median to each of the others'.
print_physical() {
  awk -v names="${programs[*]}" '
    function median(key,    n, i, j, swap, list) {
      n = split(values[key], list, " ")
      if (n == 0) return ""
      for (i = 2; i <= n; i++)
        for (j = i; j > 1 && list[j - 1] + 0 > list[j] + 0; j--) {
          swap = list[j]; list[j] = list[j - 1]; list[j - 1] = swap
        }
      return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
    }
    function note(program, what, value) { values[program " " what] = values[program " " what] " " value }
    function line(title, what, format,    i, value, ours, ratios) {
      printf "| %s |", title
      ours = median("ours " what)
      for (i = 1; i <= count; i++) {
        value = median(program[i] " " what)
        if (value == "") { printf "  |"; ratios = i == 1 ? ratios : ratios "  |"; continue }
        printf(" " format " |", value)
        if (i > 1) ratios = ratios sprintf(" %.2f |", ours / value)
      }
      print ratios
    }
    BEGIN { count = split(names, program, " ") }
    FILENAME ~ /sizes$/ { note($2, $3 " stored", $4 / 1e6); next }
    { note($2, $3 " wall", $4); note($2, $3 " cpu", $5); note($2, $3 " memory", $6 / 1024) }
    END {
      printf "| |"; for (i = 1; i <= count; i++) printf " %s |", program[i]
      for (i = 2; i <= count; i++) printf " ours ÷ %s |", program[i]
      printf "\n|---|"; for (i = 2; i <= 2 * count; i++) printf "---|"; print ""
      line("first base: seconds", "base wall", "%.2f")
      line("first base: CPU seconds", "base cpu", "%.2f")
      line("first base: MB stored", "base stored", "%.0f")
      line("unchanged: seconds", "again wall", "%.2f")
      line("unchanged: CPU seconds", "again cpu", "%.2f")
      line("restore: seconds", "restore wall", "%.2f")
      line("restore: CPU seconds", "restore cpu", "%.2f")
      line("first base: peak MiB", "base memory", "%.0f")
      line("restore: peak MiB", "restore memory", "%.0f")
    }' "$work/sizes" "$work/results"
}
