# Run `make` to see what there is. Each target installs what it needs on
# Debian 12 as root, or says what is missing.

.DEFAULT_GOAL := help
.PHONY: help demo test test-unit test-cluster lint generate kubectl-page image cluster-up cluster-down bench rounds

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

demo: ## Cluster, operator, a database, a backup, a disaster, a restore, the proof
	@hack/demo

test: ## Everything: lint, unit tests, real servers, a real cluster; ends with "N passed, N failed"
	@hack/test all

test-unit: ## Lint, unit tests and tests against real servers, without a cluster
	@hack/test unit

test-cluster: ## End-to-end scenarios: images, the cluster of this machine, the chart, then every scenario
	@hack/test cluster

lint: ## Formatting, clippy, licences and advisories, shell scripts, generated files
	@hack/lint

generate: ## Write the generated files anew: CRDs, the chart's copy of them, the tables in docs/
	@hack/generate

kubectl-page: ## Write docs/kubectl.md anew, from the cluster that is up with the operator installed
	@DBBACKUP_WRITE_PAGE=1 hack/test-cluster --test pages

image: ## Build the operator's, the runner's and the test server's image
	@images/build

cluster-up: ## Bring up a cluster of one node on this machine (kind, if there is a container engine)
	@kind-tests/cluster/up

cluster-down: ## Take it down and leave nothing behind
	@kind-tests/cluster/down

bench: ## Beside restic, rustic, borg and kopia, and beside pg_basebackup and pgBackRest (MEGABYTES=300 ROUNDS=5)
	@hack/bench/run
	@hack/bench/physical

rounds: ## A bank works while its server, its archiver, backups and the store are killed (ROUNDS=100)
	@hack/rounds
