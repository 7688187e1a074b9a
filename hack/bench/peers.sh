# shellcheck shell=bash
# The programs beside which ours is measured, each kept in the cache by its version.
# Sourced; needs hack/shell/project.sh and hack/shell/go_programs.sh.

rustic_version=0.11.4
# Newest of Debian when it is fetched: the table says which they were.
debian_peers=restic,borgbackup

# need_peers: sets $restic, $rustic, $kopia (programs) and borg's $borg (a command).
need_peers() {
  local root loader
  cached_folder bench-debian "$(key_of "$debian_peers" sid)" fetch_debian_peers
  root=$folder
  # Not in a chroot: they read and write files outside of it. restic needs no library.
  restic=$root/usr/bin/restic
  loader=$(find "$root"/usr/lib64/ "$root"/usr/lib/ -name 'ld-linux-*.so.*' -print -quit)
  borg=(env "PYTHONHOME=$root/usr" "$loader" --library-path "$(find "$root/usr/lib" -maxdepth 1 -name '*-linux-gnu')"
    "$(readlink -f "$root/usr/bin/python3")" "$root/usr/bin/borg")
  cached_folder "rustic-$rustic_version" "$(key_of "$(cargo --version)")" install_rustic
  rustic=$folder/bin/rustic
  build_go_module kopia hack/bench/kopia "" github.com/kopia/kopia
  kopia=$folder/kopia
}

# fetch_debian_peers FOLDER
fetch_debian_peers() {
  say "fetching Debian sid with $debian_peers (some minutes, once)"
  need_packages debootstrap
  need_root "making a Debian system"
  run_logged "$cache/log/debootstrap-bench.log" nice -n 5 \
    debootstrap --variant=minbase --include="$debian_peers" sid "$1"
  rm -rf "$1"/var/cache/apt/archives/*.deb
}

# install_rustic FOLDER: its commands alone, without what serves metrics and screens.
install_rustic() {
  say "building rustic $rustic_version (ten minutes, once; log: $cache/log/install-rustic.log)"
  run_logged "$cache/log/install-rustic.log" env CARGO_TARGET_DIR="$cache/target-tools" nice -n 5 \
    cargo install --locked --root "$1" --no-default-features --version "$rustic_version" rustic-rs
}

# version_of PROGRAM: name and version, as the program says.
version_of() {
  case $1 in
    ours) printf 'dbbackup %s\n' "$("$runner" --version | awk '{ print $NF }')" ;;
    restic) "$restic" version | awk '{ print $1, $2 }' ;;
    rustic) "$rustic" --version | awk '{ print $1, $2 }' ;;
    borg) "${borg[@]}" --version ;;
    kopia) printf 'kopia %s\n' "$(sed -n 's/^require github.com\/kopia\/kopia v//p' hack/bench/kopia/go.mod)" ;;
  esac
}
