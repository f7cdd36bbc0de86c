# Prometheus, told by prometheus.yml whom to scrape. The token for the master comes into /var/lib/prometheus/token.
FROM troupe-compose/base:bookworm
COPY install.sh /usr/local/bin/install-packages
RUN sh /usr/local/bin/install-packages prometheus && chown prometheus: /var/lib/prometheus
COPY prometheus.yml /etc/prometheus/prometheus.yml
USER prometheus
CMD ["prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/var/lib/prometheus/data", \
    "--storage.tsdb.retention.time=2d"]
