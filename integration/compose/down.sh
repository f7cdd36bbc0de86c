#!/bin/sh
# Ends the compose cluster and takes away what it made: containers, networks, volumes, images, the kubeconfig's context.
# The base image stays unless --all is said, as making it takes longest. Safe to repeat.
set -eu
. "$(dirname "$0")/lib.sh"
if ! docker version >/dev/null 2>&1; then
    echo "nothing to end: Docker does not run"
    exit 0
fi
stage "ending containers"
# By project and name: a cluster of `troupe up` on this machine is none of it.
ours="--filter label=com.docker.compose.project=troupe --filter name=troupe-compose"
docker ps -aq $ours | xargs -r docker rm --force --volumes >/dev/null
docker network ls -q $ours | xargs -r docker network rm >/dev/null
docker volume ls -q $ours | xargs -r docker volume rm >/dev/null
done_with "containers, network and volumes removed"
stage "removing images"
for image in etcd registry master node prometheus; do docker rmi "troupe-compose/$image" >/dev/null 2>&1 || true; done
sweep_images
[ "${1:-}" != --all ] || docker rmi troupe-compose/base:bookworm >/dev/null 2>&1 || true
done_with "images removed"
sh "$here/kubeconfig.sh" remove
done_with "kubectl's context removed"
