# shellcheck shell=bash
# What the scripts in hack/ share. Sourced from the project's folder.

# shellcheck source=hack/shell/say.sh
source hack/shell/say.sh
# shellcheck source=hack/shell/cache.sh
source hack/shell/cache.sh
# shellcheck source=hack/shell/packages.sh
source hack/shell/packages.sh
# shellcheck source=hack/shell/cargo.sh
source hack/shell/cargo.sh
