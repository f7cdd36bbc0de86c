#!/bin/sh
# Installs what Troupe needs to build, run and be tested on Debian 12, and starts Docker where no daemon
# answers. Says what it installs and why; says nothing when nothing is to do.
#
#   prepare.sh build | fuzz | up | test | compose | test-compose
set -eu
purpose=${1:-test}

missing=
why=
need() { # program or file, package, reason
    command -v "$1" >/dev/null 2>&1 || [ -e "$1" ] && return 0
    missing="$missing $2"
    why="$why
  $2: $3"
}

need cc gcc "links Rust programs"
need protoc protobuf-compiler "the etcd client is generated from its protocol"
need /usr/include/google/protobuf/descriptor.proto libprotobuf-dev "definitions that protoc needs"
[ "$purpose" = fuzz ] && need c++ g++ "compiles libFuzzer"
if [ "$purpose" != build ] && [ "$purpose" != fuzz ]; then
    need dockerd docker.io "runs the containers"
    need docker docker.io "builds the sample's image"
    need /usr/lib/cni/bridge containernetworking-plugins "connects pods to the network"
    need nft nftables "carries Services to their pods"
    need iptables iptables "Docker's own rules need an exception for pods"
    need conntrack conntrack "forgets UDP flows to pods that are gone"
    need ip iproute2 "shows and makes network interfaces"
    need kubectl kubernetes-client "talks to the cluster"
    need curl curl "asks the sample"
fi
if [ "$purpose" = test ]; then
    need etcd etcd-server "the tests run on an external etcd too"
    need python3 python3 "one test uses Python's client"
    python3 -c 'import ensurepip' >/dev/null 2>&1 || need ensurepip python3-venv "Python's client gets an environment of its own"
fi
case $purpose in
*compose)
    docker compose version >/dev/null 2>&1 || need docker-compose docker-compose "starts the containers that play machines"
    need debootstrap debootstrap "makes their base image where no registry answers"
    need strip binutils "makes the programs in the images smaller"
    ;;
esac
if [ "$purpose" = test-compose ]; then
    need openssl openssl "makes certificates for a test"
    need /usr/lib/$(uname -m)-linux-gnu/faketime/libfaketime.so.1 libfaketime "one test sets a program's clock wrong"
fi
if [ -n "$missing" ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "missing:$why" >&2
        echo "install them as root: apt-get install -y$missing" >&2
        exit 1
    fi
    echo "installing what is missing:$why"
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    if ! { apt-get update && apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "installing failed; the whole log is $log" >&2
        exit 1
    fi
    rm -f "$log"
fi
case $purpose in build | fuzz) exit 0 ;; esac

# Debian starts etcd as a service of its own on installation; the tests start theirs on free ports.
answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }
if ! answers; then
    echo "starting Docker's daemon (log: /var/log/troupe-dockerd.log)"
    if command -v systemctl >/dev/null 2>&1 && [ -d /run/systemd/system ]; then
        systemctl start docker
    else
        setsid nohup dockerd >/var/log/troupe-dockerd.log 2>&1 </dev/null &
    fi
    tries=0
    until answers; do
        tries=$((tries + 1))
        if [ "$tries" -gt 60 ]; then
            echo "Docker's daemon does not answer after 30 s; see /var/log/troupe-dockerd.log" >&2
            exit 1
        fi
        sleep 0.5
    done
fi
sh "$(dirname "$0")/../sample/build.sh"

# Python's client, from its registry, in an environment that goes with the build.
if [ "$purpose" = test ]; then
    python=${CARGO_TARGET_DIR:-$(dirname "$0")/../../target}/python
    if ! "$python/bin/python" -c 'import kubernetes' >/dev/null 2>&1; then
        echo "making $python with Python's Kubernetes client, for one test"
        python3 -m venv "$python"
        "$python/bin/pip" install --quiet --disable-pip-version-check 'kubernetes>=32'
    fi
fi
