#!/bin/sh
# Starts the compose cluster, or what is missing of it, and proves that it works. Safe to repeat.
set -eu
. "$(dirname "$0")/lib.sh"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
whole=$(now_ms)

stage "building images"
sh "$here/images.sh"
done_with "images built: etcd, registry, master, node"

stage "starting containers"
compose up --detach >"$scratch/up.log" 2>&1 ||
    { tail -n 20 "$scratch/up.log" >&2; fail "compose failed"; }
sweep_images
done_with "started: etcd1, etcd2, etcd3, master, registry, $(echo $nodes | sed 's/ /, /g')"

stage "waiting for the API"
ready() { curl -sSk --max-time 2 "https://127.0.0.1:$api_port/readyz" | grep -q ok; }
within 60 ready || { docker logs --tail 5 "$(machine master)" >&2; fail "the master is not ready after 60 s"; }
sh "$here/kubeconfig.sh" merge
done_with "the API is ready; kubectl's context \"$context\" is merged into $kubeconfig"

stage "putting the sample's image into the registry"
sample=127.0.0.1:$registry_port/troupe/sample:1
docker tag troupe/sample:1 "$sample"
within 20 docker push "$sample" || fail "the registry does not take $sample"
docker rmi "$sample" >/dev/null
done_with "registry:5000/troupe/sample:1 is in the registry"

stage "waiting for nodes"
joined() { [ "$(kubectl get nodes -o name | wc -l)" -ge "$(echo $nodes | wc -w)" ]; }
within 60 joined || { for n in $nodes; do docker logs --tail 3 "$(machine "$n")" >&2; done; fail "not all nodes have joined"; }
kubectl wait --for=condition=Ready $(printf 'node/%s ' $nodes) --timeout=90s >/dev/null ||
    { kubectl get nodes >&2; fail "not all nodes are Ready"; }
done_with "Ready: $(echo $nodes | sed 's/ /, /g')"

stage "deploying the sample"
kubectl apply -f "$here/sample.yaml" >/dev/null
kubectl rollout status deployment/web --timeout=120s >/dev/null || { kubectl get pods -o wide >&2; fail "the sample does not run"; }
on() { kubectl get pods -l app=web -o jsonpath='{range .items[*]}{.spec.nodeName}{"\n"}{end}' | sort -u; }
# Where they ran already, and a node was away since, they need not be.
[ "$(on | wc -l)" = 3 ] || {
    kubectl rollout restart deployment/web >/dev/null
    kubectl rollout status deployment/web --timeout=120s >/dev/null || true
    standing() {
        [ "$(kubectl get pods -l app=web -o name | wc -l)" = 3 ]
    }
    within 30 standing || true
}
[ "$(on | wc -l)" = 3 ] || { kubectl get pods -o wide >&2; fail "the sample's pods are not on all nodes"; }
done_with "deployment/web runs on $(on | paste -sd, | sed 's/,/, /g')"

stage "asking the sample at each node"
for n in $nodes; do
    address=$(kubectl get node "$n" -o jsonpath='{.status.addresses[?(@.type=="InternalIP")].address}')
    within 20 curl -sS --max-time 2 "http://$address:30080/" || fail "http://$address:30080 ($n's NodePort) does not answer"
    # Whichever node is asked, pods of all nodes answer, or those of others are not reached.
    for _ in $(seq 60); do curl -sS --max-time 5 "http://$address:30080/"; done | sort | uniq -c >"$scratch/answers" ||
        fail "http://$address:30080 ($n's NodePort) does not always answer"
    [ "$(wc -l <"$scratch/answers")" = 3 ] || { cat "$scratch/answers" >&2; fail "$n does not reach the pods of all nodes"; }
    done_with "http://$address:30080 ($n) answered, by pods of all nodes"
done

printf '\nup after %d s. try next:\n' $((($(now_ms) - whole) / 1000))
cat <<NEXT
  kubectl get pods -A -o wide                     # context "$context"
  docker stop troupe-compose-node2; kubectl get pods -w -o wide      # its pods move; docker start brings it back
  docker kill troupe-compose-etcd1                # nobody notices; docker start
  docker exec troupe-compose-node1 nft list ruleset                  # what a node's proxy made
  docker tag IMAGE 127.0.0.1:$registry_port/IMAGE; docker push 127.0.0.1:$registry_port/IMAGE   # pods: registry:5000/IMAGE
  make test-compose                               # failures, one after the other
  make compose-monitoring                         # Prometheus
  make compose-down                               # end it all
NEXT
