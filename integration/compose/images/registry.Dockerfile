# The registry that nodes pull from, without TLS: it is reached on the compose network and on the host's loopback.
FROM troupe-compose/base:bookworm
COPY install.sh /usr/local/bin/install-packages
RUN sh /usr/local/bin/install-packages docker-registry
COPY registry.yml /etc/docker/registry/config.yml
USER docker-registry
CMD ["docker-registry", "serve", "/etc/docker/registry/config.yml"]
