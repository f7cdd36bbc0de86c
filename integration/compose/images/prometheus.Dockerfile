# Prometheus, told by prometheus.yml whom to scrape. The token for the master and the CA come
# into /var/lib/prometheus; a server that starts without its CA file never asks whom it was to prove.
FROM troupe-compose/base:bookworm
COPY install.sh /usr/local/bin/install-packages
RUN sh /usr/local/bin/install-packages prometheus && chown prometheus: /var/lib/prometheus
COPY prometheus.yml /etc/prometheus/prometheus.yml
USER prometheus
CMD ["sh", "-c", "until [ -s /var/lib/prometheus/ca.crt ]; do sleep 0.2; done; exec prometheus \
    --config.file=/etc/prometheus/prometheus.yml --storage.tsdb.path=/var/lib/prometheus/data --storage.tsdb.retention.time=2d"]
