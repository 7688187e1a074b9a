# shellcheck shell=bash
# Kubernetes and its add-ons, built from their own Go modules: all that a machine
# without a container engine, and without access to image registries, can have.
# Sourced; needs hack/shell/*.sh and paths.sh.

# Each sets $folder to where the programs are.

build_kubebox() {
  local module=$here/go/kubebox version
  version=$(awk '$1 == "k8s.io/kubernetes" { print $2 }' "$module/go.mod")
  # Without this, clients see version 0.0.0, and Helm refuses charts that say
  # which Kubernetes they need.
  build_go_module kubebox "$module" "$(version_flags "$version")" .
}

version_flags() {
  local package=k8s.io/component-base/version major minor
  IFS=. read -r major minor _ <<<"${1#v}"
  printf -- "-X $package.%s " "gitVersion=$1" "gitMajor=$major" "gitMinor=$minor" gitTreeState=clean
}

build_addons() {
  build_go_module addons "$here/go/addons" "" ./dns ./volumes
}

build_helm() {
  local module=$here/go/helm version
  version=$(awk '$1 == "helm.sh/helm/v3" { print $2 }' "$module/go.mod")
  build_go_module helm "$module" "-X helm.sh/helm/v3/internal/version.version=$version" helm.sh/helm/v3/cmd/helm
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
