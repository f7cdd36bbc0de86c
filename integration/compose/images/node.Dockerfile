# A machine for pods: an engine of its own, the CNI plugins, and the node.
FROM troupe-compose/base:bookworm
COPY install.sh /usr/local/bin/install-packages
RUN sh /usr/local/bin/install-packages ca-certificates docker.io containernetworking-plugins nftables iptables \
    conntrack iproute2 curl
COPY node-entry.sh /usr/local/bin/node-entry
COPY troupe-node /usr/local/bin/
CMD ["bash", "/usr/local/bin/node-entry"]
