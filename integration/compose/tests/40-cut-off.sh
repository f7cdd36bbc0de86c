# A node is cut off from the master alone: its pods and its Services go on. It is heard again: all is as it was.
web web 3
cut_off=node2
asker witness $cut_off
port=$(node_port web)
its_pod=$(k get pods -l app=web --field-selector "spec.nodeName=$cut_off" -o jsonpath='{.items[0].metadata.name}')
its_ip=$(k get pod "$its_pod" -o jsonpath='{.status.podIP}')
service=$(k get service web -o jsonpath='{.spec.clusterIP}')
before=$(running_on $cut_off)
witness=$(inside $cut_off docker ps -q --filter "label=io.kubernetes.pod.name=witness" --filter label=io.kubernetes.container.name=sh)
[ -n "$witness" ] || fail "the witness's container is not found"

cut $cut_off "$net.10"
eventually 80 "the master takes $cut_off for lost" is_not_ready $cut_off
check "its containers run on, the same ones" [ "$(running_on $cut_off)" = "$before" ]
pod_answers() { inside $cut_off docker exec "$witness" timeout 3 wget -qO- "http://$its_ip:8080/"; }
check "its pod answers on the node" pod_answers
# Not through the master, as that is out of reach: in the pod itself.
service_answers() { for _ in $(seq 10); do inside $cut_off docker exec "$witness" timeout 3 wget -qO- "http://$service/" >/dev/null || return 1; done; }
check "the Service answers in its pods" service_answers
name_answers() { inside $cut_off docker exec "$witness" timeout 3 wget -qO- "http://web.$space.svc.cluster.local/"; }
check "the Service's name is known in its pods" name_answers
port_answers() { for _ in $(seq 10); do ask_port $cut_off "$port" >/dev/null || return 1; done; }
check "NodePort answers on it" port_answers

heal $cut_off
eventually 60 "it is Ready again" is_ready $cut_off
settled() {
    [ "$(standing web | wc -l)" = 3 ] && [ "$(k get pods -l app=web -o name | wc -l)" = 3 ] &&
        [ "$(ready_addresses web | wc -l)" = 3 ]
}
eventually 60 "3 pods stand, and 3 endpoints" settled
