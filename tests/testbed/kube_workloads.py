"""The fixed cluster of the stub: its workloads, what their programs do when they run, and what the kubelet says of it.

Six workloads of the namespace `store` have a typical fault each, which a change of an object mends:

    checkout   crashes: its variable PORT is no number
    catalog    has an image that is not in the registry
    search     is pending: it asks for more CPU than the node has
    reports    is killed for its memory: it needs more than its limit
    mailer     is not started: its ConfigMap lacks a key
    gateway    runs, but its Service selects no pod

A pod's state follows from its spec and from what it refers to, here as on a node.
"""

import copy
import datetime
import re

PODS, DEPLOYMENTS = ("", "v1", "pods"), ("apps", "v1", "deployments")

# The repositories of the registry, and the tags in each. Of other repositories, every tag is there.
TAGS = {"registry.example/catalog": ["1.8.1", "1.8.2"]}
# What a program needs: a variable, a variable that is a number, memory in MiB.
NEEDS_VARIABLE = {"registry.example/payments": "PAYMENTS_DB_URL"}
NEEDS_NUMBER = {"registry.example/checkout": "PORT"}
NEEDS_MEMORY = {"registry.example/reports": 180}

NODE_CPU_MILLIS = 4000

PAYMENTS_LOG = """\
2025-01-01T00:00:00Z INFO payments 3.2.1 starting
2025-01-01T00:00:00Z INFO reading configuration from the environment
2025-01-01T00:00:00Z FATAL missing env PAYMENTS_DB_URL
"""
CHECKOUT_LOG = """\
2025-01-01T00:00:00Z INFO checkout starting
2025-01-01T00:00:00Z INFO reading configuration from the environment
2025-01-01T00:00:00Z ERROR cannot listen: PORT="{}" is not a number
panic: listen: invalid port

goroutine 1 [running]:
main.main()
\t/src/checkout/main.go:41 +0x2c5
"""
REPORTS_LOG = "2025-01-01T00:00:00Z INFO reports starting\n2025-01-01T00:00:00Z INFO loading 1,204,331 rows\n"
HEALTHY_LOG = "".join(f"2025-01-01T00:{minute:02}:00Z INFO GET /healthz 200\n" for minute in range(60))

START = datetime.datetime.now(datetime.UTC)


def before_start(**ago):
    return (START - datetime.timedelta(**ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def now():
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_ready(pod):
    return all(status["ready"] for status in pod.get("status", {}).get("containerStatuses", [{"ready": False}]))


# -- the fixed cluster


def fill(cluster):
    for name in ("default", "shop", "store"):
        add(cluster, "", "namespaces", name, "", {"status": {"phase": "Active"}})
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
    room = {"cpu": "4", "memory": "16Gi", "pods": "110"}
    add(
        cluster,
        "",
        "nodes",
        "node-1",
        "",
        {
            "spec": {},
            "status": {
                "conditions": [ready],
                "capacity": room,
                "allocatable": room,
                "nodeInfo": {"kubeletVersion": "v1.35.0", "osImage": "Debian GNU/Linux 12", "architecture": "amd64"},
            },
        },
    )
    add_deployment(cluster, "default", "hello", 1, "1.0.0")
    add_deployment(cluster, "shop", "cart", 2, "2.4.0")
    add_deployment(cluster, "shop", "frontend", 2, "5.1.3")
    add_deployment(cluster, "shop", "payments", 1, "3.2.1")
    add_service(cluster, "shop", "payments", "10.96.0.20", {"app": "payments"})
    add(cluster, "", "configmaps", "payments", "shop", {"data": {"LOG_LEVEL": "info"}})
    # Here to be asked for: nothing of it may reach a model, a log or a client unmasked.
    add(
        cluster,
        "",
        "secrets",
        "payments-db",
        "shop",
        {"type": "Opaque", "data": {"password": "aHVudGVyMi1zdHViLXNlY3JldA=="}},
    )
    fill_store(cluster)


def fill_store(cluster):
    settings = [{"name": "LOG_LEVEL", "value": "info"}, {"name": "PORT", "value": "80a80"}]
    add_deployment(cluster, "store", "checkout", 1, "4.2.0", {"env": settings})
    add_deployment(cluster, "store", "catalog", 1, "1.8.3")
    add_deployment(
        cluster,
        "store",
        "search",
        1,
        "7.0.1",
        {"resources": {"limits": {"memory": "2Gi"}, "requests": {"cpu": "64", "memory": "1Gi"}}},
    )
    add_deployment(
        cluster,
        "store",
        "reports",
        1,
        "2.9.4",
        {"resources": {"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "100m", "memory": "64Mi"}}},
    )
    key = {"configMapKeyRef": {"name": "mailer", "key": "SMTP_HOST"}}
    add_deployment(cluster, "store", "mailer", 1, "1.1.0", {"env": [{"name": "SMTP_HOST", "valueFrom": key}]})
    add(cluster, "", "configmaps", "mailer", "store", {"data": {"LOG_LEVEL": "info", "SMTP_PORT": "587"}})
    add_deployment(cluster, "store", "gateway", 2, "3.0.2")
    add_service(cluster, "store", "gateway", "10.96.0.31", {"app": "gateway", "track": "canary"})
    add_service(cluster, "store", "checkout", "10.96.0.32", {"app": "checkout"})


def add(cluster, group, plural, name, namespace, body):
    meta = {"name": name, "creationTimestamp": before_start(days=2)}
    if namespace:
        meta["namespace"] = namespace
    cluster.put((group, "v1", plural), {"metadata": meta, **body})


def add_deployment(cluster, namespace, name, replicas, tag, container=None):
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": name, "image": f"registry.example/{name}:{tag}", **(container or {})}]},
    }
    add(
        cluster,
        "apps",
        "deployments",
        name,
        namespace,
        {"spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}},
    )


def add_service(cluster, namespace, name, address, selector):
    add(
        cluster,
        "",
        "services",
        name,
        namespace,
        {
            "spec": {
                "type": "ClusterIP",
                "clusterIP": address,
                "clusterIPs": [address],
                "selector": selector,
                "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}],
            }
        },
    )


POD_DEFAULTS = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "securityContext": {},
}
CONTAINER_DEFAULTS = {
    "resources": {},
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "imagePullPolicy": "IfNotPresent",
}
SERVICE_DEFAULTS = {
    "type": "ClusterIP",
    "sessionAffinity": "None",
    "internalTrafficPolicy": "Cluster",
    "ipFamilies": ["IPv4"],
    "ipFamilyPolicy": "SingleStack",
}
DEPLOYMENT_DEFAULTS = {
    "replicas": 1,
    "revisionHistoryLimit": 10,
    "progressDeadlineSeconds": 600,
    "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
}


def set_defaults(obj):
    """Fills in what an API server fills in."""
    spec = obj.get("spec")
    if obj["kind"] == "Deployment":
        add_missing(spec, DEPLOYMENT_DEFAULTS)
    if obj["kind"] == "Service":
        add_missing(spec, SERVICE_DEFAULTS)
        for port in spec.get("ports", []):
            add_missing(port, {"protocol": "TCP", "targetPort": port["port"]})
    pod = spec if obj["kind"] == "Pod" else spec.get("template", {}).get("spec") if spec else None
    if pod:
        add_missing(pod, POD_DEFAULTS)
        for container in pod["containers"]:
            add_missing(container, CONTAINER_DEFAULTS)
            for port in container.get("ports", []):
                add_missing(port, {"protocol": "TCP"})


def add_missing(into, defaults):
    for key, value in defaults.items():
        into.setdefault(key, copy.deepcopy(value))


# -- the scheduler and the kubelet


def run_pod(cluster, pod):
    """Brings the status of a pod up to what it is by its spec, with an event where something is wrong."""
    before = pod["status"]
    if "nodeName" not in pod["spec"] and cpu_millis(pod) > NODE_CPU_MILLIS:
        message = (
            "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption "
            "victims found for incoming pod."
        )
        status = {
            "phase": "Pending",
            "conditions": [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "Unschedulable",
                    "message": message,
                    "lastTransitionTime": before_start(minutes=50),
                }
            ],
        }
        events = [("Warning", "FailedScheduling", 9, message)]
    else:
        pod["spec"]["nodeName"] = "node-1"
        outcomes = [run_container(cluster, pod, container) for container in pod["spec"]["containers"]]
        statuses, events = [status for status, _ in outcomes], [event for _, of in outcomes for event in of]
        ready = str(all(status["ready"] for status in statuses))
        is_started = all("waiting" not in status["state"] or status["restartCount"] for status in statuses)
        address = f"10.244.0.{pod['metadata']['name'][-3:].lstrip('0') or 7}"
        conditions = [
            {"type": "Initialized", "status": "True"},
            {"type": "Ready", "status": ready},
            {"type": "ContainersReady", "status": ready},
            {"type": "PodScheduled", "status": "True"},
        ]
        for condition in conditions:
            condition["lastTransitionTime"] = before_start(minutes=50)
            if condition["status"] == "False":
                broken = [status["name"] for status in statuses if not status["ready"]]
                condition |= {
                    "reason": "ContainersNotReady",
                    "message": f"containers with unready status: [{' '.join(broken)}]",
                }
        status = {
            "phase": "Running" if is_started else "Pending",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "hostIP": "10.0.0.1",
            "startTime": before_start(days=2),
            "conditions": conditions,
            "containerStatuses": statuses,
        }
    if status == before:
        return
    pod["status"] = status
    cluster.store(PODS, pod)
    if not is_ready(pod):
        for level, reason, count, message in events:
            add_event(cluster, pod, level, reason, count, message)


def run_container(cluster, pod, container):
    """The status of a container, and the events about it."""
    name, image = container["name"], container["image"]
    repository, _, tag = image.rpartition(":")
    path = pod["metadata"]["namespace"] + "/" + pod["metadata"]["name"]
    running = {
        "name": name,
        "image": image,
        "imageID": "",
        "ready": True,
        "started": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": before_start(days=2)}},
    }
    waits = running | {"ready": False, "started": False}
    if repository in TAGS and tag not in TAGS[repository]:
        failure = (
            f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": {image}: not found'
        )
        return waits | {
            "state": {
                "waiting": {
                    "reason": "ImagePullBackOff",
                    "message": f'Back-off pulling image "{image}": '
                    f"ErrImagePull: rpc error: code = NotFound desc = {failure}",
                }
            }
        }, [
            ("Normal", "Pulling", 4, f'Pulling image "{image}"'),
            ("Warning", "Failed", 4, f'Failed to pull image "{image}": rpc error: code = NotFound desc = {failure}'),
            ("Normal", "BackOff", 21, f'Back-off pulling image "{image}"'),
        ]
    values, missing = variables(cluster, pod, container)
    if missing:
        return waits | {"state": {"waiting": {"reason": "CreateContainerConfigError", "message": missing}}}, [
            ("Warning", "Failed", 12, f"Error: {missing}")
        ]
    exit_code, reason = None, "Error"
    if NEEDS_MEMORY.get(repository, 0) > memory_mib(
        container.get("resources", {}).get("limits", {}).get("memory", "1Ti")
    ):
        exit_code, reason = 137, "OOMKilled"
    elif repository in NEEDS_VARIABLE and not values.get(NEEDS_VARIABLE[repository]):
        exit_code = 1
    elif repository in NEEDS_NUMBER and not values.get(NEEDS_NUMBER[repository], "").isdigit():
        exit_code = 2
    if exit_code is None:
        return running, []
    message = (
        f"back-off 5m0s restarting failed container={name} pod={pod['metadata']['name']}_"
        f"{pod['metadata']['namespace']}({pod['metadata']['uid']})"
    )
    ended = {
        "exitCode": exit_code,
        "reason": reason,
        "startedAt": before_start(minutes=6),
        "finishedAt": before_start(minutes=6),
    }
    return waits | {
        "restartCount": 7,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": message}},
        "lastState": {"terminated": ended},
    }, [
        ("Warning", "BackOff", 41, f"Back-off restarting failed container {name} in pod {path.partition('/')[2]}"),
        ("Normal", "Pulled", 8, f'Container image "{image}" already present on machine'),
    ]


def variables(cluster, pod, container):
    """The environment of a container, and why it cannot be made."""
    values, namespace = {}, pod["metadata"]["namespace"]
    for variable in container.get("env", []):
        values[variable["name"]] = variable.get("value", "")
        for kind, plural in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
            wanted = variable.get("valueFrom", {}).get(kind)
            if not wanted or wanted.get("optional"):
                continue
            source = cluster.objects["", "v1", plural].get((namespace, wanted["name"]))
            if source is None:
                return values, f'{plural[:-1]} "{wanted["name"]}" not found'
            if wanted["key"] not in {**source.get("data", {}), **source.get("stringData", {})}:
                what = "ConfigMap" if plural == "configmaps" else "Secret"
                return values, f"couldn't find key {wanted['key']} in {what} {namespace}/{wanted['name']}"
            values[variable["name"]] = source.get("data", {}).get(wanted["key"], "")
    return values, None


def add_event(cluster, pod, level, reason, count, message):
    meta = pod["metadata"]
    cluster.store(
        ("", "v1", "events"),
        {
            "metadata": {
                "name": f"{meta['name']}.{reason.lower()}",
                "namespace": meta["namespace"],
                "creationTimestamp": before_start(minutes=50),
            },
            "type": level,
            "reason": reason,
            "message": message,
            "count": count,
            "firstTimestamp": before_start(minutes=50),
            "lastTimestamp": before_start(minutes=1),
            "source": {
                "component": "default-scheduler" if reason == "FailedScheduling" else "kubelet",
                "host": "node-1",
            },
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": meta["name"],
                "namespace": meta["namespace"],
                "uid": meta["uid"],
            },
        },
    )


def pod_log(pod):
    container = pod["spec"]["containers"][0]
    repository = container["image"].rpartition(":")[0]
    if pod["status"]["containerStatuses"][0]["ready"]:
        return HEALTHY_LOG
    if repository in NEEDS_VARIABLE:
        return PAYMENTS_LOG
    if repository in NEEDS_NUMBER:
        values = [variable["value"] for variable in container.get("env", []) if variable["name"] == "PORT"]
        return CHECKOUT_LOG.format(*values or [""])
    return REPORTS_LOG


def cpu_millis(pod):
    total = 0
    for container in pod["spec"]["containers"]:
        asked = str(container.get("resources", {}).get("requests", {}).get("cpu", "0"))
        total += int(asked[:-1]) if asked.endswith("m") else int(float(asked) * 1000)
    return total


def memory_mib(quantity):
    number, unit = re.fullmatch(r"([\d.]+)(\w*)", str(quantity)).groups()
    return float(number) * {"Ti": 2**20, "Gi": 2**10, "Mi": 1, "Ki": 2**-10, "G": 954, "M": 0.954, "": 2**-20}[unit]
