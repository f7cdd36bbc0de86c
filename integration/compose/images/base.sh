#!/bin/sh
# The image that all others begin with: Debian 12. Pulled where a registry answers in time, made by debootstrap where
# none does. Does nothing when it is there already.
set -eu
image=troupe-compose/base:bookworm
mirror=${TROUPE_DEBIAN_MIRROR:-http://deb.debian.org/debian}
patience_seconds=20

docker image inspect "$image" >/dev/null 2>&1 && exit 0
if timeout "$patience_seconds" docker pull --quiet debian:bookworm-slim >/dev/null 2>&1; then
    docker tag debian:bookworm-slim "$image"
    exit 0
fi
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
if ! debootstrap --variant=minbase --include=ca-certificates bookworm "$root/base" "$mirror" >"$root/log" 2>&1; then
    tail -n 5 "$root/log" >&2
    echo "no registry answered with debian:bookworm-slim, and debootstrap failed at $mirror" >&2
    echo "name another mirror in TROUPE_DEBIAN_MIRROR" >&2
    exit 1
fi
# Security updates too, as Debian's own images have.
cat >"$root/base/etc/apt/sources.list" <<SOURCES
deb $mirror bookworm main
deb $mirror bookworm-updates main
deb ${TROUPE_DEBIAN_SECURITY_MIRROR:-http://deb.debian.org/debian-security} bookworm-security main
SOURCES
# No package starts a daemon while an image is built.
printf '#!/bin/sh\nexit 101\n' >"$root/base/usr/sbin/policy-rc.d"
chmod 755 "$root/base/usr/sbin/policy-rc.d"
find "$root/base/var/cache/apt/archives" "$root/base/var/lib/apt/lists" -type f -delete
tar -C "$root/base" -c . | docker import --change 'CMD ["/bin/sh"]' - "$image" >/dev/null
