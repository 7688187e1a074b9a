# shellcheck shell=bash
# What is backed up: two days of a PostgreSQL server, as dumps and as data folders, and
# bytes that nothing makes smaller. Made once for each size. Sourced; needs
# hack/shell/project.sh.

postgresql=17 port=54931
# A row takes about so many bytes in the dump.
row_bytes=480

# need_data MEGABYTES: sets $data, a folder with dump-1, dump-2, folder-1, folder-2
# and random.
need_data() {
  cached_folder bench-data "$(key_of "$1" "$postgresql" "$row_bytes" hack/bench/{first,second}-day.sql \
    "$(declare -f make_data start_server)")" make_data "$1"
  data=$folder
}

# make_data MEGABYTES FOLDER
make_data() {
  local megabytes=$1 output=$2 root clients inside=/var/tmp/dbbackup-bench-$$ server rows day
  need_root "running a PostgreSQL server"
  root=$(engines/postgres/tests/support/postgres-rootfs "$postgresql")
  say "two days of a database of $megabytes MB"
  rows=$((megabytes * 1000000 / row_bytes))
  chroot "$root" cp -a /var/lib/dbbackup/template "$inside"
  # Little write-ahead log, and no change that nobody asked for.
  cat >>"$root$inside/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
dynamic_shared_memory_type = mmap
fsync = off
autovacuum = off
jit = off
shared_buffers = 256MB
min_wal_size = 32MB
max_wal_size = 64MB
wal_level = minimal
max_wal_senders = 0
CONF
  for day in first second; do
    start_server "$root" "$inside"
    clients=$root/dbbackup-clients/$postgresql/bin
    run_logged "$cache/log/bench-$day-day.log" env PGPASSWORD=secret "$clients/psql" \
      --host 127.0.0.1 --port "$port" --username postgres --no-psqlrc --quiet --set ON_ERROR_STOP=1 \
      --set "rows=$rows" --file "hack/bench/$day-day.sql"
    PGPASSWORD=secret "$clients/pg_dump" --host 127.0.0.1 --port "$port" --username postgres \
      --format custom --compress 0 --file "$output/dump-$day" postgres
    # A fast shutdown, which waits for a checkpoint.
    kill -INT "$server"
    wait "$server" || true
    cp -a "$root$inside" "$output/folder-$day"
    rm "$output/folder-$day/log"
  done
  rm -rf "${root:?}$inside"
  head --bytes "${megabytes}000000" /dev/urandom >"$output/random-first"
  # Nothing of it is the same on the next day.
  head --bytes "${megabytes}000000" /dev/urandom >"$output/random-second"
}

# start_server ROOT FOLDER: sets $server, its process.
start_server() {
  local root=$1 inside=$2 binaries=/usr/lib/postgresql/$postgresql
  chroot "$root" setpriv --reuid=postgres --regid=postgres --clear-groups --pdeathsig=INT \
    env "LD_LIBRARY_PATH=$binaries/lib" "$binaries/bin/postgres" -D "$inside" -p "$port" \
    >>"$root$inside/log" 2>&1 </dev/null &
  server=$!
  wait_until 60 env PGPASSWORD=secret "$root/dbbackup-clients/$postgresql/bin/psql" \
    --host 127.0.0.1 --port "$port" --username postgres --no-psqlrc --command 'SELECT 1' ||
    fail "PostgreSQL does not start: $(tail -n 5 "$root$inside/log")"
}
