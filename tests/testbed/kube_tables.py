"""The tables that an API server makes of lists: what `kubectl get` prints."""

import datetime


def age(text):
    created = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    seconds = max(0, int((datetime.datetime.now(datetime.UTC) - created).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def pod_status(status):
    """The reason that kubectl shows, else the phase."""
    reason = status.get("phase", "Pending")
    for container in status.get("containerStatuses", []):
        state = container["state"]
        reason = state.get("waiting", state.get("terminated", {})).get("reason", reason)
    return reason


def pod_cells(pod):
    status = pod.get("status", {})
    containers = status.get("containerStatuses", [])
    restarts = sum(container["restartCount"] for container in containers)
    return [
        f"{sum(c['ready'] for c in containers)}/{len(pod['spec']['containers'])}",
        pod_status(status),
        f"{restarts} (6m ago)" if restarts else "0",
        age_of(pod),
        status.get("podIP", "<none>"),
        pod["spec"].get("nodeName", "<none>"),
        "<none>",
        "<none>",
    ]


def age_of(obj):
    return age(obj["metadata"]["creationTimestamp"])


def pod_template_cells(obj):
    containers = obj["spec"]["template"]["spec"]["containers"]
    return [
        ",".join(c["name"] for c in containers),
        ",".join(c["image"] for c in containers),
        labels(obj["spec"]["selector"]),
    ]


def labels(selector):
    pairs = selector.get("matchLabels", selector) if selector else {}
    return ",".join(f"{key}={value}" for key, value in pairs.items()) or "<none>"


def deployment_cells(obj):
    status = obj["status"]
    return [
        f"{status['readyReplicas']}/{obj['spec']['replicas']}",
        str(status["updatedReplicas"]),
        str(status["availableReplicas"]),
        age_of(obj),
        *pod_template_cells(obj),
    ]


def replica_set_cells(obj):
    status = obj["status"]
    return [obj["spec"]["replicas"], status["replicas"], status["readyReplicas"], age_of(obj), *pod_template_cells(obj)]


def service_cells(obj):
    spec = obj["spec"]
    ports = ",".join(f"{port['port']}/{port['protocol']}" for port in spec.get("ports", []))
    return [spec["type"], spec.get("clusterIP", "<none>"), "<none>", ports, age_of(obj), labels(spec.get("selector"))]


def endpoints_cells(obj):
    found = [
        f"{address['ip']}:{port['port']}"
        for subset in obj.get("subsets", [])
        for address in subset.get("addresses", [])
        for port in subset["ports"]
    ]
    return [",".join(found) or "<none>", age_of(obj)]


def slice_cells(obj):
    return [
        obj["addressType"],
        ",".join(str(port["port"]) for port in obj["ports"]) or "<unset>",
        ",".join(address for one in obj["endpoints"] for address in one["addresses"]) or "<unset>",
        age_of(obj),
    ]


def event_cells(obj):
    about = obj["involvedObject"]
    return [
        age(obj["lastTimestamp"]),
        obj["type"],
        obj["reason"],
        f"{about['kind'].lower()}/{about['name']}",
        obj["message"],
        obj["source"]["component"],
        age(obj["firstTimestamp"]),
        obj["count"],
        obj["metadata"]["name"],
    ]


def node_cells(obj):
    info = obj["status"]["nodeInfo"]
    return [
        "Ready" if is_node_ready(obj) else "NotReady",
        "<none>",
        age_of(obj),
        info["kubeletVersion"],
        "10.0.0.1",
        info["osImage"],
    ]


def is_node_ready(node):
    return any(one["type"] == "Ready" and one["status"] == "True" for one in node["status"]["conditions"])


WORKLOAD = ["Age", "-Containers", "-Images", "-Selector"]
# The columns behind the name; those with a `-` are shown with `-o wide` only.
COLUMNS = {
    "pods": (["Ready", "Status", "Restarts", "Age", "-IP", "-Node", "-Nominated Node", "-Readiness Gates"], pod_cells),
    "deployments": (["Ready", "Up-to-date", "Available", *WORKLOAD], deployment_cells),
    "replicasets": (["Desired", "Current", "Ready", *WORKLOAD], replica_set_cells),
    "services": (["Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "-Selector"], service_cells),
    "endpoints": (["Endpoints", "Age"], endpoints_cells),
    "endpointslices": (["AddressType", "Ports", "Endpoints", "Age"], slice_cells),
    "namespaces": (["Status", "Age"], lambda obj: [obj.get("status", {}).get("phase", "Active"), age_of(obj)]),
    "configmaps": (["Data", "Age"], lambda obj: [len(obj.get("data", {})), age_of(obj)]),
    "secrets": (
        ["Type", "Data", "Age"],
        lambda obj: [obj.get("type", "Opaque"), len(obj.get("data", {})), age_of(obj)],
    ),
    "nodes": (["Status", "Roles", "Age", "Version", "-Internal-IP", "-OS-Image"], node_cells),
    "events": (
        ["Last Seen", "Type", "Reason", "Object", "Message", "-Source", "-First Seen", "-Count", "-Name"],
        event_cells,
    ),
}


def as_table(resource, items, list_meta):
    titles, cells = COLUMNS.get(resource[2], (["Age"], lambda obj: [age_of(obj)]))
    # The table of events has its name last.
    named = resource[2] != "events"
    columns = [
        {
            "name": title.lstrip("-"),
            "type": "string",
            "format": "name" if title == "Name" else "",
            "description": title,
            "priority": int(title.startswith("-")),
        }
        for title in ([*["Name"] * named, *titles])
    ]
    rows = [{"cells": [*[obj["metadata"]["name"]] * named, *cells(obj)], "object": obj} for obj in items]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_meta,
        "columnDefinitions": columns,
        "rows": rows,
    }
