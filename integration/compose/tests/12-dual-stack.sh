# Pods and Services have addresses of both families, and packets of both pass between all nodes, though the nodes'
# own network is IPv4 alone.
if ! has_ipv6; then
    done_with "left out: this kernel has no IPv6"
    exit 0
fi
web web 3
k patch service web -p '{"spec": {"ipFamilyPolicy": "RequireDualStack"}}' >/dev/null
for n in $nodes; do asker "asker-$n" "$n"; done
addresses() { k get pod "$1" -o jsonpath='{.status.podIPs[*].ip}'; }
v6_of() { addresses "$1" | tr ' ' '\n' | grep :; }
# From the pod's network with the node's curl: the sample's own wget knows no addresses of IPv6.
ask_within() { # NODE URL [TIMES]
    sandbox=$(inside "$1" docker ps -q --filter "label=io.kubernetes.pod.namespace=$space" \
        --filter "label=io.kubernetes.pod.name=asker-$1" --filter label=io.kubernetes.container.name | head -n 1)
    pid=$(inside "$1" docker inspect -f '{{.State.Pid}}' "$sandbox")
    inside "$1" nsenter -t "$pid" -n sh -ec 'for _ in $(seq "$2"); do curl -gsS --max-time 3 "$1"; done' - "$2" "${3:-1}"
}
for n in $nodes; do
    check "$n's pod has both: $(addresses "asker-$n")" v6_of "asker-$n"
done
slices_of_both() {
    [ "$(k get endpointslices -l kubernetes.io/service-name=web -o jsonpath='{.items[*].addressType}' | tr ' ' '\n' |
        sort | paste -sd,)" = IPv4,IPv6 ] &&
        [ "$(ready_addresses web | wc -l)" = 6 ]
}
eventually 10 "the Service's endpoints are of both families" slices_of_both
every_pod_from() {
    for pod in $(standing web); do ask_within "$1" "http://[$(v6_of "$pod")]:8080/" || return 1; done
}
service=$(k get service web -o jsonpath='{.spec.clusterIPs[1]}')
for n in $nodes; do
    eventually 15 "$n's pods reach the pods of all nodes by IPv6" every_pod_from "$n"
    eventually 5 "$n's pods reach the Service at $service" ask_within "$n" "http://[$service]/"
    eventually 5 "$n itself reaches it, though it has no IPv6 of its own" \
        inside "$n" curl -gsS --max-time 3 -o /dev/null "http://[$service]/"
done
answers_of_all() { ask_within node1 "http://[$service]/" 60 | sort -u | wc -l; }
check "pods of all nodes answer" [ "$(answers_of_all)" = 3 ]
named() { k exec asker-node1 -- nslookup "web.$space.svc.cluster.local" | grep -qF "$service"; }
check "the Service's name leads to its address of IPv6" named
# A policy is about both.
k apply -f - >/dev/null <<POLICY
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: none}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
POLICY
pod=$(standing web | head -n 1)
shut() { ! ask_within node1 "http://[$(v6_of "$pod")]:8080/" && ! ask_within node2 "http://[$(v6_of "$pod")]:8080/"; }
eventually 15 "a policy that lets nobody in shuts out IPv6" shut
k delete networkpolicy none >/dev/null
eventually 15 "without it, it passes again" every_pod_from node1
