#!/bin/sh
# Builds the images of the compose cluster. What was built before and is still the same is found in the engine's cache.
#
#   images.sh [NAME…]      without names: all but Prometheus
set -eu
. "$(dirname "$0")/lib.sh"
programs=${TROUPE_BIN:-$top/target/release}

sh "$here/images/base.sh"
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp "$here"/images/* "$context"
for image in ${*:-etcd registry master node}; do
    case $image in
    master | node)
        [ -x "$programs/troupe-$image" ] || fail "$programs/troupe-$image is missing: cargo build --release --bins"
        # Without what only debuggers read.
        strip --strip-debug -o "$context/troupe-$image" "$programs/troupe-$image"
        ;;
    esac
    # On the host's network, as packages come from wherever the host gets them.
    docker build --quiet --network host --label troupe-compose -t "troupe-compose/$image" -f "$context/$image.Dockerfile" "$context" \
        >"$context/log" 2>&1 || { tail -n 20 "$context/log" >&2; fail "the image troupe-compose/$image cannot be built"; }
    rm -f "$context/troupe-$image"
done
