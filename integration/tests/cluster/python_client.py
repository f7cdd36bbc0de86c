"""Python's own client against the cluster: typed calls, a watch, a patch, exec and a log.

Usage: python_client.py KUBECONFIG POD, where POD runs the sample in the namespace default.
"""

import sys

from kubernetes import client, config, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import stream


def main(kubeconfig: str, pod: str) -> None:
    config.load_kube_config(config_file=kubeconfig)
    core, apps = client.CoreV1Api(), client.AppsV1Api()

    assert client.VersionApi().get_code().git_version.startswith("v1.36")
    assert any(node.metadata.name == "e2e" for node in core.list_node().items)

    # Create, read, patch, conflict, delete.
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="from-python"), data={"a": "1"})
    made = core.create_namespaced_config_map("default", body)
    assert made.metadata.uid and made.data == {"a": "1"}
    try:
        core.create_namespaced_config_map("default", body)
        raise AssertionError("it exists already")
    except ApiException as e:
        assert e.status == 409, e
    patched = core.patch_namespaced_config_map("from-python", "default", {"data": {"b": "2"}})
    assert patched.data == {"a": "1", "b": "2"}
    made.data = {"a": "late"}
    try:
        core.replace_namespaced_config_map("from-python", "default", made)
        raise AssertionError("somebody else was first")
    except ApiException as e:
        assert e.status == 409 and "object has been modified" in e.body, e.body

    # A watch sees the deletion that it waits for.
    seen = []
    core.delete_namespaced_config_map("from-python", "default")
    for event in watch.Watch().stream(
        core.list_namespaced_config_map,
        "default",
        resource_version=patched.metadata.resource_version,
        timeout_seconds=20,
    ):
        if event["object"].metadata.name == "from-python":
            seen.append(event["type"])
            break
    assert seen == ["DELETED"], seen

    # Scale through the subresource, and read it back typed.
    before = apps.read_namespaced_deployment_scale("web", "default").spec.replicas
    scaled = apps.patch_namespaced_deployment_scale("web", "default", {"spec": {"replicas": before}})
    assert scaled.spec.replicas == before

    # Into the pod, over a WebSocket.
    said = stream(
        core.connect_get_namespaced_pod_exec,
        pod,
        "default",
        command=["hostname"],
        stdout=True,
        stderr=True,
        stdin=False,
        tty=False,
    )
    assert said.strip() == pod, said
    assert "listens on 8080" in core.read_namespaced_pod_log(pod, "default")

    # Through the proxy of the API server.
    answer = core.connect_get_namespaced_pod_proxy_with_path(f"{pod}:8080", "default", "index.html")
    assert answer.strip() == pod, answer
    print("python: all well")


main(*sys.argv[1:])
