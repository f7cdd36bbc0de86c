# One member of the store's cluster is killed under load: whatever was acknowledged is there; writes go on.
raw() { kubectl config view --raw --minify -o jsonpath="{$1}" | base64 -d >"$scratch/$2"; }
raw .users[0].user.client-certificate-data certificate
raw .users[0].user.client-key-data key
raw .clusters[0].cluster.certificate-authority-data ca
# Writes until told to stop, and notes what was acknowledged. Without kubectl, which takes longer than the write.
writer() {
    i=0
    while [ ! -e "$scratch/stop" ]; do
        i=$((i + 1))
        if curl -sS --fail --cacert "$scratch/ca" --cert "$scratch/certificate" --key "$scratch/key" --max-time 20 \
            -H 'Content-Type: application/json' -o /dev/null --data "{\"metadata\":{\"name\":\"entry-$1-$i\"}}" \
            "https://127.0.0.1:$api_port/api/v1/namespaces/$space/configmaps" 2>>"$scratch/errors"; then
            echo "entry-$1-$i" >>"$scratch/acknowledged"
        else
            echo "entry-$1-$i" >>"$scratch/refused"
        fi
    done
}
count() { cat "$scratch/$1" 2>/dev/null | wc -l; }
: >"$scratch/acknowledged"
writer a &
writer b &
writer c &
more_than() { [ "$(count acknowledged)" -gt "$1" ]; }
eventually 90 "writes are acknowledged" more_than 200
# The leader, as its loss costs most.
leader=$(for e in etcd1 etcd2 etcd3; do
    inside $e etcdctl endpoint status -w fields | awk -v e=$e '/"MemberID"/ {m=$3} /"Leader"/ {if (m == $3) print e}'
done)
[ -n "$leader" ] || fail "the store's leader is not found"
docker kill "$(machine "$leader")" >/dev/null
at=$(count acknowledged)
eventually 90 "$leader, the leader, is killed; writes are acknowledged again" more_than $((at + 200))
docker start "$(machine "$leader")" >/dev/null
at=$(count acknowledged)
eventually 90 "it is back; writes go on" more_than $((at + 200))
stop_hammers
k get configmaps -o name | sed 's,.*/,,' | sort >"$scratch/there"
lost=$(sort "$scratch/acknowledged" | comm -23 - "$scratch/there" | wc -l)
check "of $(count acknowledged) acknowledged writes none is lost ($(count refused) were refused)" [ "$lost" = 0 ]
# From the store itself, by a member that was there all the time and one that was not.
for e in etcd1 etcd2 etcd3; do
    stored() {
        [ "$(inside $e etcdctl get --prefix --keys-only /registry/ | grep -c "/configmaps/$space/entry-")" -ge "$(count acknowledged)" ]
    }
    eventually 20 "$e has them all" stored
done
