# shellcheck shell=bash
# The base images, made from Debian's packages: image registries may be out of
# reach. Sourced; needs parts.sh and hack/shell/buildah.sh.

suite=trixie
# Majors of PostgreSQL whose clients Debian has, of this suite and of others.
# shellcheck disable=SC2034 # read by by_buildah.sh
debian_clients=(15 17 18)
debian_image=localhost/dbbackup-debian:$suite
minimal_image=localhost/dbbackup-minimal:$suite
# What the minimal image consists of; debootstrap adds the rest of a system.
packages=(base-files ca-certificates libc6 libgcc-s1 netbase tzdata)

# `debian`: what debootstrap calls minimal, without what no container reads.
# `minimal`: of that only what a program needs that is linked with glibc.
build_base_images() {
  local key system
  need_packages debootstrap buildah
  cached_folder "debootstrap-$suite" "$(key_of "${packages[@]}")" unpack_debian
  system=$folder/system.tar
  key=$(key_of "$(basename "$folder")" "$images/debian.sh")
  cached_folder "debian-$suite" "$key" cut_debian "$system"
  add_image "$debian_image" "$key" "$folder/debian.tar"
  add_image "$minimal_image" "$key" "$folder/minimal.tar"
}

# unpack_debian FOLDER
unpack_debian() {
  say "fetching Debian $suite (a minute or two; log: $cache/log/debootstrap.log)"
  run_logged "$cache/log/debootstrap.log" nice -n 5 \
    debootstrap --variant=minbase --include="$(IFS=,; echo "${packages[*]}")" "$suite" "$1/root"
  tar -C "$1/root" --one-file-system -cf "$1/system.tar" .
  rm -rf --one-file-system "$1/root"
}

# cut_debian ARCHIVE FOLDER
cut_debian() {
  local root=$2/root
  mkdir "$root"
  tar -C "$root" -xf "$1"
  trim "$root"
  # Debian's own images have this source too.
  echo "deb http://deb.debian.org/debian-security $suite-security main" >>"$root/etc/apt/sources.list"
  tar -C "$root" -cf "$2/debian.tar" .
  add_user "$root"
  minimal_files "$root" | tar -C "$root" --no-recursion -cf "$2/minimal.tar" -T -
  rm -rf "$root"
}

# Documentation, translations, and what apt can fetch again. dpkg is told to leave
# the same out of what is installed on top. Licences stay.
trim() {
  local root=$1 folder
  cat >"$root/etc/dpkg/dpkg.cfg.d/trim" <<'CFG'
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/man/*
CFG
  find "$root/usr/share/doc" -type f ! -name copyright -delete
  find "$root/usr/share/doc" -depth -type d -empty -delete
  for folder in usr/share/{info,locale,man} var/cache/apt var/lib/apt/lists var/log; do
    find "${root:?}/$folder" -type f -delete
  done
}

# The user of all our images, known by name so that tools that ask find one. Where
# there is a shell, the Dockerfile does this.
add_user() {
  echo "dbbackup:x:65532:65532::/nonexistent:/usr/sbin/nologin" >>"$1/etc/passwd"
  echo "dbbackup:x:65532:" >>"$1/etc/group"
}

# minimal_files ROOT: paths of the minimal image, relative to the root.
minimal_files() {
  local package path
  {
    for package in "${packages[@]}"; do
      cat "$1/var/lib/dpkg/info/$package"{,:*}.list 2>/dev/null || true
    done
    # Made when packages were configured, hence in no list.
    printf '/%s\n' etc/passwd etc/group etc/ssl/certs/ca-certificates.crt
  } | sort -u | while read -r path; do
    # The lists still name what was trimmed.
    if [[ -e $1$path || -L $1$path ]]; then
      echo ".${path%/.}"
    fi
  done
}

# add_image NAME KEY ARCHIVE: one layer, that of the archive.
add_image() {
  local container
  if buildah inspect --type image --format '{{index .OCIv1.Config.Labels "key"}}' "$1" 2>/dev/null | grep -qx "$2"; then
    return
  fi
  say "making the image $1"
  container=$(buildah from scratch)
  run_logged "$cache/log/$suite.log" buildah add "$container" "$3" /
  buildah config --label "key=$2" --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin --env LANG=C.UTF-8 --cmd '' "$container"
  run_logged "$cache/log/$suite.log" buildah commit --rm "$container" "$1"
}
