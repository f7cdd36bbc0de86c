#!/bin/sh
# Merges the administrator's context into the kubeconfig, or takes it out again.
#
#   kubeconfig.sh merge | remove
set -eu
. "$(dirname "$0")/lib.sh"
config() { command kubectl --kubeconfig "$kubeconfig" config "$@"; }

remove() {
    [ -e "$kubeconfig" ] || return 0
    config get-contexts "$context" >/dev/null 2>&1 || return 0
    current=$(config current-context 2>/dev/null || true)
    for part in context cluster user; do config "delete-$part" "$context" >/dev/null 2>&1 || true; done
    [ "$current" = "$context" ] || return 0
    # Another becomes current where there is one, as with `troupe down`.
    next=$(config get-contexts -o name | head -n 1)
    if [ -n "$next" ]; then config use-context "$next" >/dev/null; else config unset current-context >/dev/null; fi
}

merge() {
    files=$(mktemp -d)
    trap 'rm -rf "$files"' EXIT
    umask 077
    inside master cat /var/lib/troupe-master/admin.kubeconfig >"$files/admin"
    part() { command kubectl --kubeconfig "$files/admin" config view --raw -o jsonpath="{$1}" | base64 -d >"$files/$2"; }
    part .clusters[0].cluster.certificate-authority-data ca
    part .users[0].user.client-certificate-data certificate
    part .users[0].user.client-key-data key
    mkdir -p "$(dirname "$kubeconfig")"
    config set-cluster "$context" --server="https://127.0.0.1:$api_port" --certificate-authority="$files/ca" \
        --embed-certs=true >/dev/null
    config set-credentials "$context" --client-certificate="$files/certificate" --client-key="$files/key" \
        --embed-certs=true >/dev/null
    config set-context "$context" --cluster="$context" --user="$context" >/dev/null
    config use-context "$context" >/dev/null
}

"$1"
