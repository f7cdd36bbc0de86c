#!/bin/sh
# Builds the sample's image from Debian's busybox and the libraries it needs: no registry is asked.
# (Not from busybox-static: a static glibc cannot look up names without libraries of its own version.)
# Does nothing when the image is there already.
set -eu
image=troupe/sample:1
here=$(dirname "$0")

docker image inspect "$image" >/dev/null 2>&1 && exit 0
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/bin" "$root/tmp" "$root/etc" "$root/root" "$root/www"
chmod 1777 "$root/tmp"
unpacked=$(mktemp -d)
trap 'rm -rf "$root" "$unpacked"' EXIT
(
    cd "$unpacked"
    # The package is only unpacked here, never installed.
    apt-get download busybox >/dev/null 2>&1 || { apt-get update && apt-get download busybox; } >/dev/null
    dpkg -x busybox_*.deb .
)
find "$unpacked" -name busybox -type f -perm -u+x -exec cp {} "$root/bin/busybox" \;
ldd "$root/bin/busybox" | grep -oE '/[^ ]+' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done
cp "$here/web" "$root/bin/web"
chmod 755 "$root/bin/busybox" "$root/bin/web"
for applet in $("$root/bin/busybox" --list); do
    [ "$applet" = busybox ] || ln -sf busybox "$root/bin/$applet"
done
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
tar -C "$root" -c . | docker import --change 'CMD ["/bin/web"]' --change 'ENV PATH=/bin' - "$image" >/dev/null
echo "built image $image (busybox with a little web server)"
