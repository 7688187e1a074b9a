# shellcheck shell=bash
# Debian packages that a script needs are installed by it. Sourced; needs say.sh
# and cache.sh.

is_installed() {
  [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

need_packages() {
  local package missing=()
  for package in "$@"; do
    is_installed "$package" || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  command -v apt-get >/dev/null || fail "this is not Debian; install by hand what these packages hold: ${missing[*]}"
  need_root "installing packages"
  say "installing Debian packages: ${missing[*]}"
  run_logged "$cache/log/apt-update.log" apt-get update
  # RUNLEVEL=1: packages that bring a service (containerd) shall not start it.
  run_logged "$cache/log/apt-install.log" \
    env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
}

need_root() {
  ((EUID == 0)) || fail "$1 needs root: run this again with sudo"
}
