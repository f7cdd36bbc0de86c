# One member of the store's cluster. Its name is the container's host name; the members are in ETCD_INITIAL_CLUSTER.
FROM troupe-compose/base:bookworm
COPY install.sh /usr/local/bin/install-packages
RUN sh /usr/local/bin/install-packages etcd-server etcd-client
USER etcd
ENV ETCDCTL_API=3
CMD ["sh", "-c", "exec etcd --name=$(hostname) --data-dir=/var/lib/etcd/member-data \
    --listen-client-urls=http://0.0.0.0:2379 --advertise-client-urls=http://$(hostname):2379 \
    --listen-peer-urls=http://0.0.0.0:2380 --initial-advertise-peer-urls=http://$(hostname):2380"]
