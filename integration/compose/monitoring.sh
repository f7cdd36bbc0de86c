#!/bin/sh
# Starts Prometheus beside the compose cluster, and proves that it scrapes everyone. Safe to repeat: the token is new then.
set -eu
. "$(dirname "$0")/lib.sh"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
port=${TROUPE_PROMETHEUS_PORT:-$(setting TROUPE_PROMETHEUS_PORT)}
token_lifetime=720h
kubectl get nodes >/dev/null 2>&1 || fail "no compose cluster answers: make compose"

stage "building Prometheus' image"
sh "$here/images.sh" prometheus
done_with "image built: prometheus"
stage "starting Prometheus"
compose --file "$top/docker-compose.monitoring.yml" up --detach >"$scratch/up.log" 2>&1 ||
    { tail -n 20 "$scratch/up.log" >&2; fail "compose failed"; }
kubectl apply -f "$here/monitoring.yaml" >/dev/null
keep() { docker exec -i "$(machine prometheus)" sh -c "umask 077; cat >/var/lib/prometheus/$1"; }
kubectl -n monitoring create token prometheus --duration=$token_lifetime | keep token
inside master cat /var/lib/troupe-master/pki/ca.crt | keep ca.crt
done_with "Prometheus runs, with a token that is good for $token_lifetime"

stage "waiting until it has scraped everyone"
targets() { curl -sS --max-time 2 "http://127.0.0.1:$port/api/v1/query?query=$1" | grep -o '"value":\[[^]]*\]' | grep -o '"[0-9]*"\]' | tr -d '"]'; }
everyone() { [ "$(targets 'count(up==1)')" = 10 ]; }
within 60 everyone || { curl -sS "http://127.0.0.1:$port/api/v1/query?query=up" >&2; fail "not everyone is scraped"; }
done_with "scraped: the master, 3 etcd members, 3 nodes and their cAdvisor metrics"
cat <<NEXT

try next, on http://127.0.0.1:$port:
  sum by (instance) (rate(container_cpu_usage_seconds_total[1m]))
  histogram_quantile(0.99, sum by (le, verb) (rate(apiserver_request_duration_seconds_bucket[5m])))
NEXT
