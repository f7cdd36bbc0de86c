#!/bin/bash
# Makes a container into a machine that runs containers: cgroups of its own, the network's sysctls, an engine; then
# the node, started again when it ends. Ends them all, the pods' containers included, when told to.
set -eu

# In a cgroup namespace of its own, the container's cgroup is the root, as on a machine: what /proc/PID/cgroup says is
# then what lies below /sys/fs/cgroup. (Engines before cgroup v2 do not give containers one, and Compose 1.29 has no
# word for it.)
if [ "${1:-}" != machine ]; then
    exec unshare --cgroup bash "$0" machine
fi

controllers_v1() { # mount point and controllers of each hierarchy
    awk '{ for (i = 7; i < NF; i++) if ($i == "-" && $(i + 1) == "cgroup") { sub(/^rw,/, "", $NF); print $5, $NF } }' \
        /proc/self/mountinfo
}
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    # v2 (written, and not tried where this was made): a cgroup that has children must not hold processes itself.
    mount -o remount,bind,rw /sys/fs/cgroup
    mkdir -p /sys/fs/cgroup/machine
    for pid in $(cat /sys/fs/cgroup/cgroup.procs); do
        echo "$pid" >/sys/fs/cgroup/machine/cgroup.procs || true
    done
    sed 's/\([a-z]*\)/+\1/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
else
    # v1: mounted anew, so that the mounts' roots are the namespace's.
    controllers_v1 | while read -r point controllers; do
        umount "$point"
        mount -t cgroup -o "$controllers" cgroup "$point"
    done
fi

# Only the network's sysctls, which are the container's own; the kernel's others stay read-only.
mount --bind /proc/sys/net /proc/sys/net
mount -o remount,bind,rw /proc/sys/net
# Engines switch IPv6 off in containers on a network without it. The pods' network has it all the same.
if [ -e /proc/net/if_inet6 ]; then
    for which in all default lo; do echo 0 >/proc/sys/net/ipv6/conf/$which/disable_ipv6; done
fi
# As on a machine that boots: mounts made here are seen in pods that ask for it.
mount --make-rshared /

# The pods' network and rules are the node's affair, not the engine's.
dockerd --bridge=none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \
    --insecure-registry=registry:5000 --log-level=warn >/var/log/dockerd.log 2>&1 &
engine=$!
node=
ending=
end() {
    ending=yes
    kill "$engine" $node 2>/dev/null || true
}
trap end TERM INT

until docker version >/dev/null 2>&1; do
    kill -0 "$engine" 2>/dev/null || { tail -n 20 /var/log/dockerd.log; echo "the engine does not start"; exit 1; }
    sleep 0.2
done
token=/var/lib/troupe-join/token
if [ ! -e /var/lib/troupe-node/pki/node.crt ] && [ ! -e "$token" ]; then
    echo "waiting for the master's token"
    until [ -e "$token" ] || [ -n "$ending" ]; do sleep 0.2; done
fi
# The address is given, as looking for the route to the master needs a master that runs.
addresses=$(hostname -i)
while [ -z "$ending" ]; do
    troupe-node --master master:6444 --token-file "$token" --address "${addresses%% *}" --ingress &
    node=$!
    wait -n "$engine" "$node" || true
    [ -n "$ending" ] && break
    kill -0 "$engine" 2>/dev/null || { echo "the engine ended; see /var/log/dockerd.log"; exit 1; }
    sleep 2
done
wait
