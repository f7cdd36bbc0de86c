# A machine loses power: its pods are replaced elsewhere, its endpoints go. It comes back: nothing stale, nothing twice.
web web 3
lost=node3
gone=$(k get pods -l app=web --field-selector "spec.nodeName=$lost" -o jsonpath='{.items[0].metadata.name}')
gone_ip=$(k get pod "$gone" -o jsonpath='{.status.podIP}')
docker kill "$(machine $lost)" >/dev/null
eventually 70 "$lost is not Ready any more" is_not_ready $lost
endpoint_gone() { ! ready_addresses web | grep -qxF "$gone_ip"; }
eventually 20 "its endpoint is gone" endpoint_gone
replaced() {
    [ "$(standing web | wc -l)" = 3 ] && ! standing web | grep -qx "$gone" &&
        [ "$(k get deployment web -o jsonpath='{.status.readyReplicas}')" = 3 ]
}
eventually 60 "its pod is replaced elsewhere" replaced
port=$(node_port web)
all_answer() { for _ in $(seq 20); do ask_port node1 "$port" && ask_port node2 "$port" || return 1; done; }
check "the Service answers on the other nodes, each time" all_answer

docker start "$(machine $lost)" >/dev/null
eventually 60 "$lost is back and Ready" is_ready $lost
stale_gone() { ! k get pod "$gone" >/dev/null 2>&1; }
eventually 60 "the stale pod is removed" stale_gone
nothing_runs() { [ -z "$(inside $lost docker ps -aq --filter "label=io.kubernetes.pod.name=$gone")" ]; }
eventually 30 "no container is left of it" nothing_runs
check "3 pods stand, none twice" [ "$(standing web | sort -u | wc -l)" = 3 ]
asker back $lost
answers_there() { ask_port $lost "$port" && ask_from back "http://web/" && ask_from back "http://$(ready_addresses web | head -n 1):8080/"; }
eventually 30 "NodePort, Service and pods of others are reached from $lost again" answers_there
