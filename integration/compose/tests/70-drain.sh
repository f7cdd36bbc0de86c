# Two nodes are drained at once, and a PodDisruptionBudget holds: never more than one pod is missing.
web web 3
k create poddisruptionbudget web --selector=app=web --min-available=2 >/dev/null
computed() { [ "$(k get pdb web -o jsonpath='{.status.disruptionsAllowed}')" = 1 ]; }
eventually 20 "the budget allows one disruption" computed
port=$(node_port web)
hammer port "http://$(address_of node3):$port/"
(
    while [ ! -e "$scratch/stop" ]; do
        ready_addresses web | wc -l >>"$scratch/ready"
    done
) &
kubectl drain node1 --pod-selector="app=web" --timeout=120s >"$scratch/drain1" 2>&1 &
first=$!
kubectl drain node2 --pod-selector="app=web" --timeout=120s >"$scratch/drain2" 2>&1 &
second=$!
stage "draining node1 and node2"
wait $first || { cat "$scratch/drain1" >&2; fail "node1 cannot be drained"; }
wait $second || { cat "$scratch/drain2" >&2; fail "node2 cannot be drained"; }
done_with "node1 and node2 are drained"
stop_hammers
moved() { [ "$(pods_on node3 web | wc -l)" = 3 ] && [ "$(ready_addresses web | wc -l)" = 3 ]; }
eventually 30 "all pods run on node3" moved
least=$(sort -n "$scratch/ready" | head -n 1)
check "never fewer than 2 were ready (the least seen: $least, in $(wc -l <"$scratch/ready") looks)" [ "$least" -ge 2 ]
check "of $(asked port) requests meanwhile none failed" none_failed port
