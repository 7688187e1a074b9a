# shellcheck shell=bash
# `cargo zigbuild` with what it needs, in the cache: zig brings the symbols of an old
# glibc, so that no old system is needed to build for one. Sourced; needs parts.sh.

zigbuild_version=0.24.1
zig_version=0.15.2

need_zigbuild() {
  need_packages python3-venv
  cached_folder zig "$zig_version" install_zig
  zig=$folder
  cached_folder cargo-zigbuild "$zigbuild_version" install_zigbuild
  zigbuild_program=$folder/bin/cargo-zigbuild
}

install_zig() {
  say "installing zig $zig_version from PyPI"
  python3 -m venv "$1"
  run_logged "$cache/log/zig.log" "$1/bin/pip" install --no-input "ziglang==$zig_version"
}

install_zigbuild() {
  say "installing cargo-zigbuild $zigbuild_version from crates.io (a minute or two)"
  run_logged "$cache/log/cargo-zigbuild.log" nice -n 5 env -u CARGO_TARGET_DIR \
    cargo install --locked --root "$1" --version "$zigbuild_version" cargo-zigbuild
}

# The program looks for zig as a module of the first python3 on the PATH. The
# folder has moved since pip wrote it, which python3 itself does not mind.
zigbuild() {
  PATH=$zig/bin:$PATH nice -n 5 "$zigbuild_program" zigbuild "$@"
}
