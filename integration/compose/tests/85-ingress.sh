# An Ingress answers on every node, in the clear and by TLS with the Secret's certificate; a rollout behind it, with
# clients that ask all the time, fails no request.
web web 4
host=web.test.example
certificate() { # SERIAL
    openssl req -x509 -newkey rsa:2048 -nodes -days 9 -set_serial "$1" -subj "/CN=$host" -addext "subjectAltName=DNS:$host" \
        -keyout "$scratch/key" -out "$scratch/crt" 2>/dev/null
    k create secret tls web --cert="$scratch/crt" --key="$scratch/key" --dry-run=client -o yaml | k apply -f - >/dev/null 2>&1
}
certificate 1
k create ingress web --class=troupe --rule="$host/*=web:80,tls=web" >/dev/null
reached() { curl -sS --max-time 3 --fail -H "Host: $host" "http://$(address_of "$1")/"; }
for n in $nodes; do eventually 20 "$n answers for $host" reached "$n"; done
secure() { curl -sS --max-time 3 --fail --cacert "$scratch/crt" --resolve "$host:443:$(address_of "$1")" "https://$host/"; }
for n in $nodes; do eventually 20 "$n answers by TLS" secure "$n"; done
addresses() { [ "$(k get ingress web -o jsonpath='{.status.loadBalancer.ingress[*].ip}' | wc -w)" = 3 ]; }
eventually 20 "the Ingress tells the addresses of all nodes" addresses
unknown() { [ "$(curl -sS --max-time 3 -o /dev/null -w '%{http_code}' -H 'Host: other.example' "http://$(address_of node1)/")" = 404 ]; }
check "other hosts are not found" unknown
certificate 2
for n in $nodes; do eventually 20 "$n has the new certificate" secure "$n"; done

# Each answer over a connection of its own, and over kept ones.
for n in $nodes; do
    : >"$scratch/$n.status"
    ( while [ ! -e "$scratch/stop" ]; do
        curl -sS --max-time 5 -o /dev/null -w '%{http_code}\n' -H "Host: $host" "http://$(address_of "$n")/?[1-50]" \
            >>"$scratch/$n.status" 2>>"$scratch/$n.errors" || true
    done ) &
done
k rollout restart deployment/web >/dev/null
stage "a rollout"
k rollout status deployment/web --timeout=120s >/dev/null || { evidence >&2; fail "the rollout does not end"; }
done_with "a rollout"
stop_hammers
for n in $nodes; do check "$n: of $(asked "$n") requests none failed" none_failed "$n"; done

lost=node3
docker kill "$(machine $lost)" >/dev/null
withdrawn() { ! k get ingress web -o jsonpath='{.status.loadBalancer.ingress[*].ip}' | grep -q "$(address_of $lost)"; }
eventually 90 "the address of $lost is withdrawn when it is lost" withdrawn
docker start "$(machine $lost)" >/dev/null
eventually 60 "$lost is back" is_ready $lost
eventually 20 "$lost answers again" reached $lost
