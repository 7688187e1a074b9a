# shellcheck shell=bash
# Cargo with its output outside of the checkout, so that a clean clone builds
# quickly. Sourced; needs say.sh and cache.sh.

if [[ -z ${CARGO_TARGET_DIR:-} ]]; then
  export CARGO_TARGET_DIR=$cache/target
  take_target "$CARGO_TARGET_DIR" "$PWD"
fi
export PATH="$cache/cargo-tools/bin:$PATH"

# need_cargo_tool CRATE: installs the program of that name from crates.io.
need_cargo_tool() {
  command -v "$1" >/dev/null && return
  say "installing $1 (some minutes, once)"
  run_logged "$cache/log/install-$1.log" env CARGO_TARGET_DIR="$cache/target-tools" \
    nice -n 5 cargo install --locked --root "$cache/cargo-tools" "$1"
}
