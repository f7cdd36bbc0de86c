#!/bin/sh
# Runs one scenario: a fresh namespace before, everything mended after. Sourced by it: what scenarios are made of.
#
#   scenario.sh NAME FILE
set -eu
. "$(dirname "$0")/lib.sh"
name=$1
space=test-$name
scratch=$(mktemp -d)

k() { kubectl -n "$space" "$@"; }
address_of() { echo "$net.2${1#node}"; }
# A claim that holds now.
check() {
    what=$1
    shift
    "$@" >"$scratch/said" || { cat "$scratch/said" >&2; fail "$what"; }
    done_with "$what"
}
# A claim that is to hold within so many seconds; the time that it took is shown.
eventually() {
    patience=$1
    what=$2
    shift 2
    stage "$what"
    within "$patience" "$@" || { evidence >&2; fail "$what: not within $patience s"; }
    done_with "$what"
}
evidence() {
    kubectl get nodes || true
    k get pods,endpointslices -o wide || true
    k get events --sort-by=.lastTimestamp | tail -n 15 || true
}

# A web server: NAME, REPLICAS, and further lines of the pod's spec.
web() {
    k apply -f - >/dev/null <<WEB
apiVersion: apps/v1
kind: Deployment
metadata: {name: $1}
spec:
  replicas: $2
  selector: {matchLabels: {app: $1}}
  template:
    metadata: {labels: {app: $1}}
    spec:
      terminationGracePeriodSeconds: 5
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
      topologySpreadConstraints:
      - topologyKey: kubernetes.io/hostname
        maxSkew: 1
        whenUnsatisfiable: DoNotSchedule
        nodeTaintsPolicy: Honor
        labelSelector: {matchLabels: {app: $1}}
        matchLabelKeys: [pod-template-hash]
      containers:
      - name: web
        image: registry:5000/troupe/sample:1
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
        lifecycle: {preStop: {sleep: {seconds: 2}}}
        resources: {requests: {cpu: 10m, memory: 8Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: $1}
spec:
  type: NodePort
  selector: {app: $1}
  ports: [{name: http, port: 80, targetPort: http}]
WEB
    k rollout status "deployment/$1" --timeout=90s >/dev/null || { evidence >&2; fail "deployment $1 does not run"; }
}
# A pod on a given node that does nothing, to ask things from: NAME, NODE.
asker() {
    k apply -f - >/dev/null <<ASKER
apiVersion: v1
kind: Pod
metadata: {name: $1}
spec:
  nodeName: $2
  terminationGracePeriodSeconds: 0
  tolerations: [{operator: Exists}]
  containers:
  - {name: sh, image: "registry:5000/troupe/sample:1", command: [sleep, "100000"]}
ASKER
    k wait --for=condition=Ready "pod/$1" --timeout=60s >/dev/null || { evidence >&2; fail "pod $1 does not run"; }
}
# (Not wget's own -T: Debian 12's busybox crashes of it.)
ask_from() { k exec "$1" -- timeout 3 wget -qO- "$2"; }
node_port() { k get service "$1" -o jsonpath='{.spec.ports[0].nodePort}'; }
ask_port() { curl -sS --max-time 3 "http://$(address_of "$1"):$2/"; }
pods_on() { k get pods --field-selector "spec.nodeName=$1" -l "app=$2" -o name; }
# Pods of an app that are not on their way out.
standing() {
    k get pods -l "app=$1" \
        -o go-template='{{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}}{{"\n"}}{{end}}{{end}}'
}
ready_addresses() {
    k get endpointslices -l "kubernetes.io/service-name=$1" \
        -o jsonpath='{range .items[*].endpoints[?(@.conditions.ready==true)]}{.addresses[0]}{"\n"}{end}' | sort
}
node_status() { kubectl get node "$1" -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}'; }
is_ready() { [ "$(node_status "$1")" = True ]; }
is_not_ready() { [ "$(node_status "$1")" != True ]; }
# What the engine of a node runs for this scenario, as pod/container and id.
running_on() {
    inside "$1" docker ps --filter "label=io.kubernetes.pod.namespace=$space" --format '{{.Names}} {{.ID}}' | sort
}
# Drops what passes between a node and an address, until healed.
cut() {
    docker exec -i "$(machine "$1")" nft -f - <<CUT
add table inet test_cut
add chain inet test_cut in { type filter hook input priority -300; }
add chain inet test_cut out { type filter hook output priority -300; }
add rule inet test_cut in ip saddr $2 drop
add rule inet test_cut out ip daddr $2 drop
CUT
}
heal() { inside "$1" nft delete table inet test_cut 2>/dev/null || true; }

# Asks a URL again and again, a new connection each, until told to stop, and notes each answer's status: NAME, URL.
hammer() {
    : >"$scratch/$1.status"
    (
        while [ ! -e "$scratch/stop" ]; do
            curl -sS -H 'Connection: close' --max-time 5 -o /dev/null -w '%{http_code}\n' "$2?[1-50]" \
                >>"$scratch/$1.status" 2>>"$scratch/$1.errors" || true
        done
    ) &
}
stop_hammers() { touch "$scratch/stop"; wait; rm -f "$scratch/stop"; }
asked() { wc -l <"$scratch/$1.status"; }
failures() { grep -cvx 200 "$scratch/$1.status" || true; }
none_failed() {
    [ "$(asked "$1")" -gt 0 ] && [ "$(failures "$1")" = 0 ] || { tail -n 5 "$scratch/$1.errors"; return 1; }
}

mend() {
    status=$?
    set +e
    trap - EXIT INT TERM
    touch "$scratch/stop"
    for n in $nodes; do
        [ "$(docker inspect -f '{{.State.Running}}' "$(machine "$n")")" = true ] || docker start "$(machine "$n")" >/dev/null
        heal "$n"
        kubectl uncordon "$n" >/dev/null 2>&1 || true
    done
    for part in etcd1 etcd2 etcd3 master; do
        [ "$(docker inspect -f '{{.State.Running}}' "$(machine $part)")" = true ] || docker start "$(machine $part)" >/dev/null
    done
    within 60 kubectl get --raw /readyz || echo "  the master does not come back" >&2
    kubectl delete namespace "$space" --wait=false >/dev/null 2>&1 || true
    kubectl wait --for=condition=Ready $(printf 'node/%s ' $nodes) --timeout=90s >/dev/null ||
        { echo "  not all nodes came back" >&2; status=1; }
    kubectl wait --for=delete "namespace/$space" --timeout=90s >/dev/null 2>&1 ||
        { echo "  namespace $space does not go" >&2; status=1; }
    rm -rf "$scratch"
    exit $status
}
trap mend EXIT
trap 'exit 130' INT TERM
kubectl create namespace "$space" >/dev/null
. "$2"
