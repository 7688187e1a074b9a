# shellcheck shell=bash
# One adapter a program: `PROGRAM_init`, `PROGRAM_store WHAT DAY`, `PROGRAM_again WHAT`
# (the second day once more, read anew) and `PROGRAM_restore WHAT`. Each works in
# $work/PROGRAM: its `repository` is weighed, its caches live beside it, `out` takes what
# it gives back. Encryption is on everywhere, compression is zstd at its fastest regular
# setting. Sourced; needs $work, $data, peers.sh, and `timed` for what is measured.
#
# A dump comes by standard input, as from the program that makes it. A folder is always
# $work/input, which each program may recognise from the day before.

passphrase='correct horse battery staple'

ours() { "$runner" "$@" --passphrase-file "$work/key"; }
ours_init() { ours init "file://$work/ours/repository" >/dev/null; }
ours_store() {
  local repository=file://$work/ours/repository key=(--passphrase-file "$work/key")
  if [[ $1 == folder ]]; then
    timed "$runner" store "$repository" folder "${key[@]}" --chunking fixed:8192 --path "$work/input"
  else
    timed "$runner" store "$repository" dump "${key[@]}" <"$data/$1-$2"
  fi
}
ours_again() { ours_store "$1" second; }
ours_restore() {
  local repository=file://$work/ours/repository last
  last=$(ours snapshots "$repository" --json | sed -n 's/.*"id": *"\([^"]*\)".*/\1/p' | tail -n 1)
  if [[ $1 == folder ]]; then
    timed "$runner" fetch "$repository" "$last" --passphrase-file "$work/key" --target "$work/ours/out"
  else
    mkdir "$work/ours/out"
    to="$work/ours/out/dump" timed "$runner" fetch "$repository" "$last" --passphrase-file "$work/key"
  fi
}

restic_environment() {
  export RESTIC_REPOSITORY=$work/restic/repository RESTIC_CACHE_DIR=$work/restic/cache \
    RESTIC_PASSWORD=$passphrase RESTIC_COMPRESSION=fastest
}
restic_init() { restic_environment && "$restic" init --quiet; }
restic_store() {
  if [[ $1 == folder ]]; then
    (cd "$work/input" && timed "$restic" backup --quiet "${@:3}" .)
  else
    timed "$restic" backup --quiet --stdin --stdin-filename dump "${@:3}" <"$data/$1-$2"
  fi
}
restic_again() { restic_store "$1" second --force; }
restic_restore() { timed "$restic" restore --quiet --target "$work/restic/out" latest; }

rustic_environment() {
  export RUSTIC_REPOSITORY=$work/rustic/repository RUSTIC_CACHE_DIR=$work/rustic/cache \
    RUSTIC_PASSWORD=$passphrase RUSTIC_NO_PROGRESS=true RUSTIC_LOG_LEVEL=warn
}
rustic_init() { rustic_environment && "$rustic" init --set-compression 1 >/dev/null; }
rustic_store() {
  if [[ $1 == folder ]]; then
    timed "$rustic" backup "${@:3}" "$work/input"
  else
    # Without --force it takes a second stream for the first, and stores nothing of it.
    timed "$rustic" backup --force --stdin-filename dump - <"$data/$1-$2"
  fi
}
rustic_again() { rustic_store "$1" second --force; }
rustic_restore() { timed "$rustic" restore latest "$work/rustic/out"; }

borg() { "${borg[@]}" "$@"; }
borg_init() {
  export BORG_BASE_DIR=$work/borg BORG_PASSPHRASE=$passphrase BORG_REPO=$work/borg/repository
  borg init --encryption repokey &>/dev/null
}
borg_store() {
  local create=(timed "${borg[@]}" create --compression 'zstd,1')
  if [[ $1 == folder ]]; then
    (cd "$work/input" && "${create[@]}" "${@:4}" "::${3:-$2}" .)
  else
    "${create[@]}" --stdin-name dump "${@:4}" "::${3:-$2}" - <"$data/$1-$2"
  fi
}
borg_again() { borg_store "$1" second again --files-cache disabled; }
borg_restore() {
  mkdir "$work/borg/out"
  (cd "$work/borg/out" && timed "${borg[@]}" extract ::again)
}

kopia_init() {
  export KOPIA_CONFIG_PATH=$work/kopia/config KOPIA_PASSWORD=$passphrase KOPIA_CHECK_FOR_UPDATES=false \
    KOPIA_CACHE_DIRECTORY=$work/kopia/cache KOPIA_LOG_DIR=$work/kopia/log
  "$kopia" repository create filesystem --path "$work/kopia/repository" &>/dev/null
  "$kopia" policy set --global --compression zstd-fastest &>/dev/null
}
kopia_store() {
  local more=(--no-progress --no-auto-maintenance --log-level error "${@:3}")
  if [[ $1 == folder ]]; then
    timed "$kopia" snapshot create "${more[@]}" "$work/input"
  else
    timed "$kopia" snapshot create "${more[@]}" --stdin-file dump "$work/kopia" <"$data/$1-$2"
  fi
}
kopia_again() { kopia_store "$1" second --force-hash 100; }
kopia_restore() {
  local root
  root=$("$kopia" snapshot list --all --json | sed -n 's/.*"obj": *"\([^"]*\)".*/\1/p' | tail -n 1)
  timed "$kopia" snapshot restore --no-progress --log-level error "$root" "$work/kopia/out"
}
