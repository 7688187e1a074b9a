# shellcheck shell=bash
# What is slow to make is made once and kept outside of the checkout. Sourced;
# needs say.sh.
#
# Each entry is a folder NAME-KEY, where KEY is a hash of everything that the
# content depends on: an entry is never changed, only another one made.

cache=${XDG_CACHE_HOME:-$HOME/.cache}/dbbackup
mkdir -p "$cache"

# key_of WORD_OR_FILE...: a file counts by its name and content, a word as it stands.
key_of() {
  local part
  for part in "$@"; do
    if [[ -f $part ]]; then
      printf 'file %s ' "$(basename "$part")"
      sha256sum <"$part"
    else
      printf 'word %s\n' "$part"
    fi
  done | sha256sum | cut -c 1-12
}

# A folder that was begun and not finished must not stay.
draft=
trap '[[ -z $draft ]] || rm -rf "$draft"' EXIT

# cached_folder NAME KEY COMMAND...: sets $folder. If the folder is not there,
# the command makes its content in an empty folder, given as its last argument.
cached_folder() {
  local name=$1 key=$2 lock
  shift 2
  folder=$cache/$name-$key
  [[ ! -d $folder ]] || return 0
  # Two scripts that need the same thing: the second waits for the first.
  exec {lock}>"$cache/$name.lock"
  flock "$lock"
  if [[ ! -d $folder ]]; then
    draft=$(mktemp -d "$cache/.draft-$name-XXXXXX")
    chmod 755 "$draft"
    "$@" "$draft"
    mv -T "$draft" "$folder"
    draft=
  fi
  exec {lock}>&-
}

# take_target FOLDER CHECKOUT: makes one of cargo's target folders safe for a checkout
# that may not be the one that used it last. Cargo knows our packages by their place in
# the workspace, wherever that lies, and asks only whether files are newer than what it
# built: it would take the other checkout's code for ours. Dependencies stay; what was
# built of ours goes, too, which nothing would ever take away: it fills disks.
take_target() {
  [[ $(cat "$1/.checkout" 2>/dev/null) != "$2" ]] || return 0
  mkdir -p "$1"
  find "$1" -maxdepth 4 -path '*/.fingerprint/dbbackup-*' -prune -exec rm -rf {} +
  find "$1" -maxdepth 4 -type f \( -path '*/deps/*dbbackup*' -o -path '*/examples/*' \) -delete
  find "$1" -maxdepth 3 -type d -name incremental -prune -exec rm -rf {} +
  printf '%s\n' "$2" >"$1/.checkout"
}
