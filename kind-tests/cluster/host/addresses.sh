# shellcheck shell=bash
# Names and addresses of the node. Sourced.
#
# The two ends of the cable between host and node. The second one is also written
# in node/config/ (name server), the pods' range 10.244.0.0/16 and the services'
# range 10.96.0.0/16 likewise.

node_name=node1
host_interface=dbbackup0
host_address=10.243.0.1
node_address=10.243.0.2
