# shellcheck shell=bash
# What the scripts in this folder share. Sourced.

images=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
project=$(dirname "$images")
shell=$project/hack/shell
# shellcheck source=hack/shell/say.sh
source "$shell/say.sh"
# shellcheck source=hack/shell/cache.sh
source "$shell/cache.sh"
# shellcheck source=hack/shell/packages.sh
source "$shell/packages.sh"
# shellcheck source=hack/shell/engine.sh
source "$shell/engine.sh"
