# The master is killed and started again: nodes reconnect by themselves, and no container is touched.
web web 6
port=$(node_port web)
state() { for n in $nodes; do running_on "$n"; done; }
before=$(state)
hammer port "http://$(address_of node1):$port/"
docker kill "$(machine master)" >/dev/null
sleep 5
for n in $nodes; do check "NodePort answers on $n without a master" ask_port "$n" "$port"; done
docker start "$(machine master)" >/dev/null
api() { kubectl get --raw /readyz; }
eventually 60 "the API is back" api
# Only over the link.
reached() { for n in $nodes; do kubectl get --raw "/api/v1/nodes/$n/proxy/healthz" || return 1; done; }
eventually 60 "all nodes are connected again" reached
# The old leases are of before; a renewal is of now.
renewed() {
    for n in $nodes; do
        [ "$(date -d "$(kubectl -n kube-node-lease get lease "$n" -o jsonpath='{.spec.renewTime}')" +%s)" -ge "$back_at" ] || return 1
    done
}
back_at=$(date +%s)
eventually 30 "all nodes renew their leases" renewed
all_ready() { for n in $nodes; do is_ready "$n" || return 1; done; }
check "all nodes are Ready" all_ready
stop_hammers
check "no container was touched" [ "$(state)" = "$before" ]
check "of $(asked port) requests meanwhile none failed" none_failed port
k scale deployment web --replicas=7 >/dev/null
grown() { [ "$(k get deployment web -o jsonpath='{.status.readyReplicas}')" = 7 ]; }
eventually 30 "what is asked for then, is done" grown
