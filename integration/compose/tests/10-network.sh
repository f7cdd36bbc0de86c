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
    check "$n's pods reach the Service by its name" ask_from "asker-$n" "http://web.$space.svc.cluster.local/" -O /dev/null
done
# What a pod sees of who asks, is the asker's own address.
source_is_kept() {
    to=$(k get pod asker-node2 -o jsonpath='{.status.podIP}')
    from=$(k get pod asker-node1 -o jsonpath='{.status.podIP}')
    k exec asker-node2 -- sh -c 'timeout 5 nc -l -p 7000 -v -e /bin/true 2>&1' >"$scratch/seen" &
    sleep 1
    k exec asker-node1 -- sh -c "echo | nc -w 2 $to 7000" || true
    wait $! || true
    grep -qF "$from" "$scratch/seen"
}
check "a pod of another node sees the asker's own address" source_is_kept
# A megabyte in one answer: packets of full size pass.
big_answer() {
    k exec "$(standing web | head -n 1)" -- sh -c 'dd if=/dev/zero of=/www/big bs=1024 count=1024 2>/dev/null'
    address=$(k get pod "$(standing web | head -n 1)" -o jsonpath='{.status.podIP}')
    for n in $nodes; do
        [ "$(k exec "asker-$n" -- sh -c "wget -qO- -T 10 http://$address:8080/big | wc -c")" -eq 1048576 ] || return 1
    done
}
check "a megabyte passes between all nodes" big_answer
