#!/bin/sh
# Builds the sample's image from nothing but Debian's static busybox: no registry is asked.
# Does nothing when the image is there already.
set -eu
image=troupe/sample:1
here=$(dirname "$0")

docker image inspect "$image" >/dev/null 2>&1 && exit 0
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/bin" "$root/tmp" "$root/etc" "$root/root" "$root/www"
chmod 1777 "$root/tmp"
cp /bin/busybox "$root/bin/busybox"
cp "$here/web" "$root/bin/web"
chmod 755 "$root/bin/busybox" "$root/bin/web"
for applet in $(/bin/busybox --list); do
    [ "$applet" = busybox ] || ln -sf busybox "$root/bin/$applet"
done
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
tar -C "$root" -c . | docker import --change 'CMD ["/bin/web"]' --change 'ENV PATH=/bin' - "$image" >/dev/null
echo "built image $image (busybox and a little web server)"
