# shellcheck shell=bash
# Is the cluster fit for use? Sourced; needs paths.sh, addresses.sh, node.sh.

kubectl() {
  "$bin/kubectl" --kubeconfig "$kubeconfig" --request-timeout 5s "$@"
}

apiserver_is_ready() { kubectl get --raw /readyz; }
node_is_ready() { kubectl wait --for condition=Ready --timeout 0 "node/$node_name"; }
dns_is_ready() { answers_ok 8181 /ready; }
proxy_is_ready() { answers_ok 10256 /healthz; }
# Made by the controller manager in each namespace; no pod starts before.
accounts_are_ready() { kubectl get serviceaccount default; }

cluster_is_healthy() {
  node_process && apiserver_is_ready && node_is_ready && accounts_are_ready && proxy_is_ready && dns_is_ready
} >/dev/null 2>&1

# answers_ok PORT PATH: by HTTP, without need of a client for it.
answers_ok() {
  local connection status
  exec {connection}<>"/dev/tcp/$api_address/$1" || return 1
  printf 'GET %s HTTP/1.0\r\n\r\n' "$2" >&"$connection"
  read -r _ status _ <&"$connection"
  exec {connection}>&-
  [[ $status == 200 ]]
}
