# A Service of type LoadBalancer has an address of its own on the nodes' network, and keeps it when the node that
# announces it is lost.
web web 3
k patch service web -p '{"spec": {"type": "LoadBalancer"}}' >/dev/null
balanced() { k get service web -o jsonpath='{.status.loadBalancer.ingress[0].ip}'; }
announcer() { k get service web -o jsonpath='{.metadata.annotations.troupe\.dev/announced-by}'; }
has_address() { [ -n "$(balanced)" ] && [ -n "$(announcer)" ]; }
# From this machine, which is on the same network and knows the address by ARP alone.
answers() { curl -sS --max-time 2 "http://$(balanced)/"; }
eventually 10 "the Service has an address" has_address
address=$(balanced)
eventually 10 "$address answers" answers
held_by() { inside "$1" ip -o addr show to "$address/32" | grep -q "$address"; }
check "$(announcer) has it" held_by "$(announcer)"

first=$(announcer)
docker kill "$(machine "$first")" >/dev/null
moved() { [ "$(announcer)" != "$first" ]; }
eventually 90 "another node announces it" moved
eventually 15 "$address answers again" answers
same() { [ "$(balanced)" = "$address" ]; }
check "the address is the same" same

docker start "$(machine "$first")" >/dev/null
eventually 60 "$first is back" is_ready "$first"
given_up() { ! held_by "$first"; }
eventually 10 "$first leaves it to $(announcer)" given_up

# Traffic that must find an endpoint where it arrives goes to nodes that have one.
k patch service web -p '{"spec": {"externalTrafficPolicy": "Local"}}' >/dev/null
k scale deployment web --replicas=1 >/dev/null
with_endpoint() {
    [ "$(k get endpointslices -l kubernetes.io/service-name=web \
        -o jsonpath='{.items[*].endpoints[?(@.conditions.ready==true)].nodeName}')" = "$(announcer)" ]
}
eventually 30 "the node with the endpoint announces it" with_endpoint
eventually 15 "$address answers" answers

k patch service web -p '{"spec": {"type": "ClusterIP", "externalTrafficPolicy": null}}' >/dev/null
nobody() { [ -z "$(balanced)" ] && for n in $nodes; do ! held_by "$n" || return 1; done; }
eventually 10 "without the type, nobody has the address" nobody
