# shellcheck shell=bash
# A certificate authority for this one cluster, a certificate for each component,
# and kubeconfig files that hold them. Sourced; needs paths.sh and addresses.sh.

make_credentials() {
  local pki=$state/var/lib/cluster/pki files=$state/var/lib/cluster/kubeconfig
  (
    umask 077
    mkdir -p "$pki" "$files"
    cd "$pki"
    new_key ca
    new_key service-account
    openssl req -x509 -new -key ca.key -out ca.crt -days 365 -subj /CN=dbbackup-cluster

    issue apiserver /CN=kube-apiserver \
      "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1,IP:$api_address"
    issue_kubelet
    issue admin /O=system:masters/CN=admin DNS:admin
    # Kubernetes' own roles are bound to these names.
    issue kube-controller-manager /CN=system:kube-controller-manager DNS:kube-controller-manager
    issue kube-scheduler /CN=system:kube-scheduler DNS:kube-scheduler
    issue kube-proxy /CN=system:kube-proxy DNS:kube-proxy

    local user
    for user in admin kubelet kube-controller-manager kube-scheduler kube-proxy; do
      write_kubeconfig "$user" >"$files/$user"
    done
    cp "$files/admin" "$kubeconfig"
  ) 2>"$state/credentials.log" || {
    show_end_of "$state/credentials.log"
    fail "cannot make the cluster's certificates"
  }
}

# What a further node needs of its own, and of what the first one has.
make_node_credentials() {
  local cluster=$state/var/lib/cluster mine=$node_state/var/lib/cluster
  (
    umask 077
    mkdir -p "$mine/pki" "$mine/kubeconfig"
    cp "$cluster"/pki/ca.{crt,key} "$mine/pki"
    cp "$cluster"/kubeconfig/{admin,kube-proxy} "$mine/kubeconfig"
    cd "$mine/pki"
    issue_kubelet
    write_kubeconfig kubelet >"$mine/kubeconfig/kubelet"
    rm ca.key
  ) 2>"$node_state/credentials.log" || {
    show_end_of "$node_state/credentials.log"
    fail "cannot make the certificates of $node_name"
  }
}

issue_kubelet() {
  issue kubelet "/O=system:nodes/CN=system:node:$node_name" "DNS:$node_name,IP:$node_address"
}

# Elliptic curves, because a dozen RSA keys would take seconds.
new_key() {
  openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
}

# issue NAME SUBJECT ALTERNATIVE_NAMES
issue() {
  new_key "$1"
  openssl req -new -key "$1.key" -subj "$2" |
    openssl x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 \
      -extfile <(printf 'subjectAltName=%s' "$3") -out "$1.crt"
}

# The certificates are inside of the file, so that it can be copied anywhere.
write_kubeconfig() {
  cat <<YAML
apiVersion: v1
kind: Config
clusters:
- name: dbbackup
  cluster:
    server: https://$api_address:6443
    certificate-authority-data: $(base64 -w 0 ca.crt)
users:
- name: $1
  user:
    client-certificate-data: $(base64 -w 0 "$1.crt")
    client-key-data: $(base64 -w 0 "$1.key")
contexts:
- name: dbbackup
  context: {cluster: dbbackup, user: $1}
current-context: dbbackup
YAML
}
