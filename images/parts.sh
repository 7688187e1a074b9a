# shellcheck shell=bash
# What the scripts in this folder share. Sourced.

images=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
shell=$images/../hack/shell
# shellcheck source=hack/shell/say.sh
source "$shell/say.sh"
# shellcheck source=hack/shell/cache.sh
source "$shell/cache.sh"
# shellcheck source=hack/shell/packages.sh
source "$shell/packages.sh"
