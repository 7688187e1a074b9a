# shellcheck shell=bash
# Where things are. Sourced; needs hack/shell/cache.sh.

# All that the running cluster writes. Removed by `down`.
state=${DBBACKUP_CLUSTER_DIR:-$cache/cluster}
# The file that says that the folder is ours to delete.
mark=.dbbackup-cluster
kubeconfig=$state/kubeconfig
# Programs for people and scripts: kubectl and helm.
bin=$cache/bin
