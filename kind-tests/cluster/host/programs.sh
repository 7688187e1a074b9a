# shellcheck shell=bash
# Kubernetes and its add-ons, built from their own Go modules: all that a machine
# without a container engine, and without access to image registries, can have.
# Sourced; needs hack/shell/*.sh and paths.sh.

# Each sets $folder to where the programs are.

# module_version MODULE: as a go.mod here requires it.
module_version() {
  awk -v module="$1" '$1 == module { print $2 }' "$here"/go/*/go.mod
}

# Without the flags, clients see version 0.0.0, and Helm refuses charts that say
# which Kubernetes they need.
build_kubebox() {
  local package=k8s.io/component-base/version version parts
  version=$(module_version k8s.io/kubernetes)
  IFS=. read -r -a parts <<<"${version#v}"
  build_go_module kubebox "$here/go/kubebox" \
    "-X $package.gitVersion=$version -X $package.gitMajor=${parts[0]} -X $package.gitMinor=${parts[1]} -X $package.gitTreeState=clean" .
}

build_addons() {
  build_go_module addons "$here/go/addons" "" ./dns ./volumes
}

# `helm template` and `helm lint` know the cluster's version only from these flags.
build_helm() {
  local module=$here/go/helm version flags kubernetes package
  version=$(module_version helm.sh/helm/v3)
  flags="-X helm.sh/helm/v3/internal/version.version=$version"
  IFS=. read -r -a kubernetes <<<"$(module_version k8s.io/kubernetes)"
  for package in pkg/chartutil pkg/lint/rules; do
    flags+=" -X helm.sh/helm/v3/$package.k8sVersionMajor=${kubernetes[0]#v}"
    flags+=" -X helm.sh/helm/v3/$package.k8sVersionMinor=${kubernetes[1]}"
  done
  build_go_module helm "$module" "$flags" helm.sh/helm/v3/cmd/helm
}

# offer NAME COMMAND...: puts it where people and scripts find it. Both programs
# would keep what they know of a cluster's API below ~/.kube, by its address, and
# believe it of the next cluster too: it belongs to the cluster.
offer() {
  mkdir -p "$bin"
  cat >"$bin/.$1" <<SH
#!/bin/sh
export KUBECONFIG="\${KUBECONFIG:-$kubeconfig}" KUBECACHEDIR="$state/client-cache"
exec ${*:2} "\$@"
SH
  chmod 755 "$bin/.$1"
  mv "$bin/.$1" "$bin/$1"
}
