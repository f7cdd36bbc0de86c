# Sourced by the scripts beside it: names, stages, and ways into the cluster.
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
context=troupe-compose
kubeconfig=${KUBECONFIG:-$HOME/.kube/config}
# A list is read in full and written to at its first.
kubeconfig=${kubeconfig%%:*}
nodes="node1 node2 node3"

# The settings that compose reads; what the environment says goes first, as in compose.
setting() { sed -n "s/^$1=//p" "$top/.env"; }
net=${TROUPE_NET:-$(setting TROUPE_NET)}
api_port=${TROUPE_API_PORT:-$(setting TROUPE_API_PORT)}
registry_port=${TROUPE_REGISTRY_PORT:-$(setting TROUPE_REGISTRY_PORT)}

# Both families where the kernel has IPv6, else the first of each pair.
cluster_cidr=${TROUPE_CLUSTER_CIDR:-$(setting TROUPE_CLUSTER_CIDR)}
service_cidr=${TROUPE_SERVICE_CIDR:-$(setting TROUPE_SERVICE_CIDR)}
has_ipv6() { [ -e /proc/net/if_inet6 ]; }
has_ipv6 || { cluster_cidr=${cluster_cidr%%,*} service_cidr=${service_cidr%%,*}; }
export TROUPE_CLUSTER_CIDR="$cluster_cidr" TROUPE_SERVICE_CIDR="$service_cidr"

compose() {
    if docker compose version >/dev/null 2>&1; then
        docker compose --project-directory "$top" --file "$top/docker-compose.yml" "$@"
    else
        docker-compose --project-directory "$top" --file "$top/docker-compose.yml" "$@"
    fi
}

kubectl() { command kubectl --kubeconfig "$kubeconfig" --context "$context" "$@"; }
# The container that plays a machine.
machine() { echo "troupe-compose-$1"; }
inside() { where=$1; shift; docker exec "$(machine "$where")" "$@"; }

# Images of ours that newer ones have replaced, and that no container uses any more.
sweep_images() {
    docker images -q --filter dangling=true --filter label=troupe-compose | while read -r image; do
        docker rmi "$image" >/dev/null 2>&1 || true
    done
}

now_ms() { date +%s%3N; }
# Stages, as `troupe up` shows them: one line each, with the time it took.
began=$(now_ms)
stage() {
    began=$(now_ms)
    what=$1
    [ -t 1 ] && printf '  … %s\r' "$what" || true
}
done_with() {
    took=$(($(now_ms) - began))
    # The line that it replaces may have been longer.
    [ -t 1 ] && printf '\033[K' || true
    printf '  ✓ %s (%d.%d s)\n' "$1" $((took / 1000)) $((took % 1000 / 100))
    began=$(now_ms)
}
fail() {
    [ -t 1 ] && printf '\033[K' || true
    printf '  ✗ %s\n' "$1" >&2
    exit 1
}
# Tries a command until it succeeds, for so many seconds.
within() {
    seconds=$1
    shift
    until=$(($(now_ms) + seconds * 1000))
    until "$@" >/dev/null 2>&1; do
        [ "$(now_ms)" -lt "$until" ] || return 1
        sleep 0.2
    done
}
