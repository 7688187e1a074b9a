# shellcheck shell=bash
# What the scripts here need on the machine: found, or installed and said so.

# Caches lie outside of the checkout, so that a clean clone is quick.
export DBBACKUP_CACHE="${DBBACKUP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dbbackup}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$DBBACKUP_CACHE/target}"
mkdir -p "$DBBACKUP_CACHE"
export PATH="$DBBACKUP_CACHE/cargo-tools/bin:$PATH"

# A line about what happens next.
say() { printf '%s %s\n' '=>' "$*"; }

# Ends with a message.
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# need_package COMMAND PACKAGE: installs Debian's package if the command is missing.
need_package() {
  command -v "$1" >/dev/null && return
  command -v apt-get >/dev/null || die "$1 is missing: install it ($2 in Debian)"
  say "installing $2, which has $1"
  apt-get update -qq && apt-get install -y -qq "$2" >/dev/null
}

# need_cargo_tool CRATE: installs a program from crates.io into the cache.
need_cargo_tool() {
  command -v "$1" >/dev/null && return
  say "installing $1 (some minutes, once)"
  CARGO_TARGET_DIR="$DBBACKUP_CACHE/target-tools" \
    cargo install --quiet --locked --root "$DBBACKUP_CACHE/cargo-tools" "$1"
}
