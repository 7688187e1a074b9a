# shellcheck shell=bash
# Everything that the commands beside this folder are made of. Sourced by them.

here=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
shell=$here/../../hack/shell

# shellcheck source=hack/shell/say.sh
source "$shell/say.sh"
# shellcheck source=hack/shell/cache.sh
source "$shell/cache.sh"
# shellcheck source=hack/shell/packages.sh
source "$shell/packages.sh"
# shellcheck source=hack/shell/go_programs.sh
source "$shell/go_programs.sh"
# shellcheck source=hack/shell/engine.sh
source "$shell/engine.sh"
# shellcheck source=hack/shell/buildah.sh
source "$shell/buildah.sh"
# shellcheck source=kind-tests/cluster/host/paths.sh
source "$here/host/paths.sh"
# shellcheck source=kind-tests/cluster/host/addresses.sh
source "$here/host/addresses.sh"
# shellcheck source=kind-tests/cluster/host/programs.sh
source "$here/host/programs.sh"
# shellcheck source=kind-tests/cluster/host/pause_image.sh
source "$here/host/pause_image.sh"
# shellcheck source=kind-tests/cluster/host/credentials.sh
source "$here/host/credentials.sh"
# shellcheck source=kind-tests/cluster/host/cgroups.sh
source "$here/host/cgroups.sh"
# shellcheck source=kind-tests/cluster/host/sysctls.sh
source "$here/host/sysctls.sh"
# shellcheck source=kind-tests/cluster/host/node.sh
source "$here/host/node.sh"
# shellcheck source=kind-tests/cluster/host/health.sh
source "$here/host/health.sh"
# shellcheck source=kind-tests/cluster/host/leftovers.sh
source "$here/host/leftovers.sh"
# shellcheck source=kind-tests/cluster/host/images.sh
source "$here/host/images.sh"
# shellcheck source=kind-tests/cluster/host/local.sh
source "$here/host/local.sh"
# shellcheck source=kind-tests/cluster/host/second.sh
source "$here/host/second.sh"
# shellcheck source=kind-tests/cluster/host/kind.sh
source "$here/host/kind.sh"
