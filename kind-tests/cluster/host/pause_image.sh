# shellcheck shell=bash
# The image of the container that holds a pod's namespaces: one static program, as
# an archive in the form that `docker save` writes. Put together by hand, because
# no tool is needed for one layer. Sourced; needs hack/shell/*.sh.

build_pause_image() {
  local program
  build_go_module pause-program "$here/go/pause" "" .
  program=$folder/pause
  cached_folder pause "$(key_of "$program")" pack_pause_image "$program"
}

# pack_pause_image PROGRAM FOLDER
pack_pause_image() {
  local layer
  tar -C "$(dirname "$1")" --owner 0 --group 0 --mtime @0 -cf "$2/layer.tar" pause
  layer=$(sha256sum <"$2/layer.tar" | cut -d ' ' -f 1)
  cat >"$2/config.json" <<JSON
{"architecture": "$(go env GOARCH)", "os": "linux", "config": {"Entrypoint": ["/pause"]},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:$layer"]}}
JSON
  cat >"$2/manifest.json" <<'JSON'
[{"Config": "config.json", "RepoTags": ["localhost/pause:1"], "Layers": ["layer.tar"]}]
JSON
  tar -C "$2" -cf "$2/pause.tar" manifest.json config.json layer.tar
}
