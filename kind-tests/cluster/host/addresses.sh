# shellcheck shell=bash
# Names and addresses of the nodes. Sourced; needs paths.sh.
#
# The first node holds the control plane, and its cable leads to the host. The second one
# comes and goes (see `second-node`), and its cable leads to the first. Addresses of the
# first are also written in node/config/ (name server); so are the pods' range
# 10.244.0.0/16, of which each node has a half, and the services' range 10.96.0.0/16.

first_node=node1
second_node=node2
host_address=10.243.0.1
api_address=10.243.0.2

# choose_node NAME: whom the functions of the other files speak of from now on.
choose_node() {
  node_name=$1
  case $node_name in
    "$first_node")
      node_state=$state
      node_role=control-plane
      node_address=$api_address
      # The other end of its cable.
      interface=dbbackup0 gateway=$host_address
      pods=10.244.0.0/17 pod_addresses=(10.244.0.2 10.244.127.254)
      node_routes=""
      ;;
    "$second_node")
      node_state=$state/$second_node
      node_role=worker
      node_address=10.243.0.6
      interface=$second_node gateway=10.243.0.5
      pods=10.244.128.0/17 pod_addresses=(10.244.128.1 10.244.255.254)
      # What is beyond the first node's end: the API server, names, the first node's pods.
      node_routes="10.243.0.0/30 10.244.0.0/17"
      ;;
    *) fail "there is no node $node_name: there are $first_node and $second_node" ;;
  esac
  containerd_socket=$node_state/run/containerd/containerd.sock
}
choose_node "$first_node"
