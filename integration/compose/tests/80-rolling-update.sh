# A rollout, with clients that ask all the time: no request fails.
web web 6
port=$(node_port web)
asker inside node1
k exec inside -- sh -c 'while [ ! -e /tmp/stop ]; do timeout 5 wget -qO /dev/null http://web/ 2>>/tmp/errors && echo . >>/tmp/good || date >>/tmp/bad; done' &
for n in $nodes; do hammer "$n" "http://$(address_of "$n"):$port/"; done
for round in 1 2; do
    k rollout restart deployment/web >/dev/null
    stage "rollout $round"
    k rollout status deployment/web --timeout=120s >/dev/null || { evidence >&2; fail "the rollout does not end"; }
    done_with "rollout $round"
done
k exec inside -- touch /tmp/stop
stop_hammers
for n in $nodes; do
    check "NodePort of $n: of $(asked "$n") requests none failed" none_failed "$n"
done
good=$(k exec inside -- sh -c 'wc -l </tmp/good')
bad=$(k exec inside -- sh -c 'cat /tmp/bad 2>/dev/null | wc -l')
[ "$bad" = 0 ] || k exec inside -- tail -n 5 /tmp/errors >&2
check "the Service by name from a pod: of $((good + bad)) requests none failed" [ "$bad" = 0 ]
