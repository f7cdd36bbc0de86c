# A node that cannot join says why, and what to do. Nothing is left of it.
newcomer() { # further arguments of docker run, the image among them
    docker run --rm --name troupe-compose-newcomer --network troupe-compose --cap-drop ALL "$@" 2>&1
}
says() { # claim, pattern, what newcomer is told
    claim=$1
    pattern=$2
    shift 2
    said=$(newcomer "$@") && { echo "$said" >&2; fail "$claim: it joined"; }
    echo "$said" | grep -qE "$pattern" || { echo "$said" >&2; fail "$claim: no \"$pattern\" in what it says"; }
    done_with "$claim: $(echo "$said" | grep -E "$pattern" | tail -n 1)"
}
join="troupe-node --name stranger --state-dir /tmp/state"
good=$(inside node1 cat /var/lib/troupe-join/token)
id=${good%.*}

says "a token of another form" "troupe token create" troupe-compose/node $join --master master:6444 --token nonsense
says "an unknown token" "troupe token create" troupe-compose/node $join --master master:6444 --token abcdef.0123456789abcdef
says "a wrong secret" "troupe token create" troupe-compose/node $join --master master:6444 --token "$id.0123456789abcdef"

# As `troupe token create` makes them, but of yesterday.
kubectl -n kube-system create secret generic bootstrap-token-yester --type=bootstrap.kubernetes.io/token \
    --from-literal=token-id=yester --from-literal=token-secret=0123456789abcdef \
    --from-literal=expiration="$(date -u -d yesterday +%Y-%m-%dT%H:%M:%SZ)" \
    --from-literal=usage-bootstrap-authentication=true --from-literal=usage-bootstrap-signing=true \
    --from-literal=auth-extra-groups=system:bootstrappers:kubeadm:default-node-token >/dev/null
says "an expired token" "expired.*troupe token create" troupe-compose/node $join --master master:6444 --token yester.0123456789abcdef
kubectl -n kube-system delete secret bootstrap-token-yester --ignore-not-found >/dev/null

says "no master at the address" "is the master running, and is the address right" \
    troupe-compose/node $join --master registry:6444 --token "$good"
says "something else at the address" "no master's link port" \
    troupe-compose/node $join --master registry:5000 --token "$good"
says "no such host" "lookup|resolve|route" troupe-compose/node $join --master nowhere.invalid:6444 --token "$good"
swallow="nft add table inet t; nft add chain inet t out '{ type filter hook output priority 0; }'
nft add rule inet t out tcp dport 6444 drop"
says "a master that swallows packets" "does not answer" --cap-add NET_ADMIN \
    troupe-compose/node sh -c "$swallow; exec $join --master master:6444 --token $good"
says "a name that the certificate lacks" "certificate-name" \
    --add-host "elsewhere:$net.10" troupe-compose/node $join --master elsewhere:6444 --token "$good"

# The clock that programs see, moved by a library.
library=/usr/lib/$(uname -m)-linux-gnu/faketime/libfaketime.so.1
[ -e "$library" ] || fail "$library is missing: apt-get install libfaketime"
for off in +61m -61m -3h; do
    says "a clock that is $off off" "clock" -e FAKETIME="$off" -e FAKETIME_DONT_FAKE_MONOTONIC=1 \
        -e LD_PRELOAD=/faketime.so -v "$library:/faketime.so:ro" \
        troupe-compose/node $join --master master:6444 --token "$good"
done
no_stranger() { ! kubectl get node stranger >/dev/null 2>&1; }
check "no node came of it" no_stranger
