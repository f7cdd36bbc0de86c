# Pods reach pods of other nodes under their own addresses; Services and names work from everywhere.
web web 3
for n in $nodes; do asker "asker-$n" "$n"; done
every_pod_from() {
    for address in $(ready_addresses web); do
        ask_from "asker-$1" "http://$address:8080/" >/dev/null || return 1
    done
}
[ "$(ready_addresses web | wc -l)" = 3 ] || fail "3 endpoints expected"
for n in $nodes; do
    eventually 15 "$n's pods reach the pods of all nodes" every_pod_from "$n"
    check "$n's pods reach the Service by its name" ask_from "asker-$n" "http://web.$space.svc.cluster.local/"
done
# What a pod sees of who asks, is the asker's own address.
answerer=$(standing web | head -n 1)
k exec "$answerer" -- sh -c 'mkdir -p /www/cgi-bin && cd /www/cgi-bin &&
    printf "#!/bin/sh\necho\necho \$REMOTE_ADDR\n" >who && chmod 755 who'
source_is_kept() {
    to=$(k get pod "$answerer" -o jsonpath='{.status.podIP}')
    for n in $nodes; do
        ask_from "asker-$n" "http://$to:8080/cgi-bin/who" | grep -qF "$(k get pod "asker-$n" -o jsonpath='{.status.podIP}')" || return 1
    done
}
check "pods see the askers' own addresses, from all nodes" source_is_kept
# A megabyte in one answer: packets of full size pass.
big_answer() {
    k exec "$answerer" -- sh -c 'dd if=/dev/zero of=/www/big bs=1024 count=1024 2>/dev/null'
    address=$(k get pod "$answerer" -o jsonpath='{.status.podIP}')
    for n in $nodes; do
        [ "$(k exec "asker-$n" -- sh -c "timeout 10 wget -qO- http://$address:8080/big | wc -c")" -eq 1048576 ] || return 1
    done
}
check "a megabyte passes between all nodes" big_answer
