#!/bin/sh
# Failures, one after the other, on the compose cluster that `make compose` started. Each file in tests/ is one; it
# makes what it needs in a namespace of its own, and mends what it broke.
#
#   test.sh [NAME…]      without names: all
set -u
. "$(dirname "$0")/lib.sh"
kubectl get nodes >/dev/null 2>&1 || fail "no compose cluster answers: make compose"

failed=
for file in "$here"/tests/*.sh; do
    name=$(basename "$file" .sh | sed 's/^[0-9]*-//')
    [ $# -eq 0 ] || case " $* " in *" $name "*) ;; *) continue ;; esac
    echo "$name"
    sh "$here/scenario.sh" "$name" "$file" || failed="$failed $name"
done
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
echo "all passed"
