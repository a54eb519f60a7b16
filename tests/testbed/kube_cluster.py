"""The objects of the stub, and what the controllers, the scheduler and the kubelet of a real cluster make of them."""

import copy
import hashlib
import json
import threading
import uuid

import kube_workloads
from kube_workloads import DEPLOYMENTS, PODS, before_start, is_ready, now

# (group, version, plural): (kind, namespaced, short names, subresources)
RESOURCES = {
    ("", "v1", "configmaps"): ("ConfigMap", True, ["cm"], []),
    ("", "v1", "endpoints"): ("Endpoints", True, ["ep"], []),
    ("", "v1", "events"): ("Event", True, ["ev"], []),
    ("", "v1", "namespaces"): ("Namespace", False, ["ns"], []),
    ("", "v1", "nodes"): ("Node", False, ["no"], []),
    ("", "v1", "persistentvolumeclaims"): ("PersistentVolumeClaim", True, ["pvc"], []),
    ("", "v1", "pods"): ("Pod", True, ["po"], ["log"]),
    ("", "v1", "secrets"): ("Secret", True, [], []),
    ("", "v1", "serviceaccounts"): ("ServiceAccount", True, ["sa"], []),
    ("", "v1", "services"): ("Service", True, ["svc"], []),
    ("apps", "v1", "deployments"): ("Deployment", True, ["deploy"], ["scale"]),
    ("apps", "v1", "replicasets"): ("ReplicaSet", True, ["rs"], ["scale"]),
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews"): ("SelfSubjectAccessReview", False, [], []),
    ("discovery.k8s.io", "v1", "endpointslices"): ("EndpointSlice", True, [], []),
    ("networking.k8s.io", "v1", "networkpolicies"): ("NetworkPolicy", True, ["netpol"], []),
    ("policy", "v1", "poddisruptionbudgets"): ("PodDisruptionBudget", True, ["pdb"], []),
    ("rbac.authorization.k8s.io", "v1", "clusterrolebindings"): ("ClusterRoleBinding", False, [], []),
    ("rbac.authorization.k8s.io", "v1", "clusterroles"): ("ClusterRole", False, [], []),
}
REPLICA_SETS, SERVICES, ENDPOINTS = ("apps", "v1", "replicasets"), ("", "v1", "services"), ("", "v1", "endpoints")
SLICES = ("discovery.k8s.io", "v1", "endpointslices")
PROGRESS = {
    "NewReplicaSetAvailable": "has successfully progressed.",
    "ReplicaSetUpdated": "is progressing.",
    "ProgressDeadlineExceeded": "has timed out progressing.",
}
REVISION = "deployment.kubernetes.io/revision"


def api_version(resource):
    group, version, _ = resource
    return f"{group}/{version}" if group else version


def field(obj, path):
    for part in path.split("."):
        obj = obj.get(part, {}) if isinstance(obj, dict) else {}
    return "" if obj == {} else str(obj)


class Failure(Exception):
    """An answer other than success, as the API server words it."""

    def __init__(self, code, reason, message):
        super().__init__(message)
        self.code, self.reason = code, reason


class Cluster:
    """The objects, by resource and then by (namespace, name). Every method expects `lock` to be held."""

    def __init__(self):
        self.lock = threading.Condition()
        self.objects = {resource: {} for resource in RESOURCES}
        self.version = 0
        self.born = 0
        self.changes = []  # (version, resource, "ADDED" | "MODIFIED" | "DELETED", object): what a watch reports
        self.is_filled = False
        with self.lock:
            kube_workloads.fill(self)
            self.is_filled = True
            self.settle()

    # -- objects

    def snapshot(self):
        return copy.deepcopy((self.objects, self.version, self.born)), len(self.changes)

    def restore(self, snapshot):
        (self.objects, self.version, self.born), changes = snapshot
        del self.changes[changes:]

    def get(self, resource, namespace, name):
        try:
            return self.objects[resource][namespace, name]
        except KeyError:
            plural = resource[2] + (f".{resource[0]}" if resource[0] else "")
            raise Failure(404, "NotFound", f'{plural} "{name}" not found') from None

    def put(self, resource, obj):
        """Stores `obj`, new or in place of the one of its name, and lets what depends on it follow.

        Returns it as stored, before the controllers act."""
        stored = copy.deepcopy(self.store(resource, obj))
        if self.is_filled:
            self.settle()
        return stored

    def store(self, resource, obj):
        kind, namespaced, _, _ = RESOURCES[resource]
        meta = obj.setdefault("metadata", {})
        obj["apiVersion"], obj["kind"] = api_version(resource), kind
        kube_workloads.set_defaults(obj)
        namespace = meta.setdefault("namespace", "default") if namespaced else ""
        if namespaced and ("", namespace) not in self.objects["", "v1", "namespaces"]:
            raise Failure(404, "NotFound", f'namespaces "{namespace}" not found')
        old = self.objects[resource].get((namespace, meta["name"]))
        known = old["metadata"] if old else {}
        self.version += 1
        meta["uid"] = known.get("uid") or str(uuid.uuid5(uuid.NAMESPACE_OID, f"{kind} {self.version}"))
        meta["creationTimestamp"] = known.get("creationTimestamp") or meta.get("creationTimestamp") or now()
        meta["resourceVersion"] = str(self.version)
        if "spec" in obj:
            same = old is not None and old.get("spec") == obj["spec"]
            meta["generation"] = known.get("generation", 0) + (not same)
        self.objects[resource][namespace, meta["name"]] = obj
        self.report(resource, "MODIFIED" if old else "ADDED", obj)
        return obj

    def report(self, resource, change, obj):
        self.changes.append((self.version, resource, change, copy.deepcopy(obj)))
        self.lock.notify_all()

    def remove(self, resource, namespace, name):
        obj = self.objects[resource].pop((namespace, name))
        self.version += 1
        self.report(resource, "DELETED", obj)

    def delete(self, resource, namespace, name):
        obj = self.get(resource, namespace, name)
        self.remove(resource, namespace, name)
        if resource[2] == "namespaces":
            for inside in self.objects:
                for where, which in [key for key in self.objects[inside] if key[0] == name]:
                    self.remove(inside, where, which)
        self.settle()
        return obj

    def in_namespace(self, resource, namespace):
        return [obj for (where, _), obj in list(self.objects[resource].items()) if where == namespace]

    # -- controllers

    def settle(self):
        self.collect_garbage()
        for deployment in list(self.objects[DEPLOYMENTS].values()):
            self.roll_out(deployment)
        for pod in list(self.objects[PODS].values()):
            kube_workloads.run_pod(self, pod)
        for deployment in list(self.objects[DEPLOYMENTS].values()):
            self.finish_rollout(deployment)
        for service in list(self.objects[SERVICES].values()):
            self.find_endpoints(service)

    def collect_garbage(self):
        """Removes what is left of owners that are gone, until nothing is left."""
        uids = {obj["metadata"]["uid"] for objects in self.objects.values() for obj in objects.values()}
        for resource in (REPLICA_SETS, PODS, ENDPOINTS, SLICES):
            for (namespace, name), obj in list(self.objects[resource].items()):
                owners = obj["metadata"].get("ownerReferences", [])
                if owners and not any(owner["uid"] in uids for owner in owners):
                    self.remove(resource, namespace, name)
                    uids.discard(obj["metadata"]["uid"])

    def owned(self, resource, owner):
        uid = owner["metadata"]["uid"]
        return [
            obj
            for obj in self.in_namespace(resource, owner["metadata"]["namespace"])
            if any(ref["uid"] == uid for ref in obj["metadata"].get("ownerReferences", []))
        ]

    def roll_out(self, deployment):
        """The replica set of the template, and as many pods as it asks for."""
        meta, spec = deployment["metadata"], deployment["spec"]
        sets = self.owned(REPLICA_SETS, deployment)
        bare = {**spec["template"], "metadata": {**spec["template"].get("metadata", {})}}
        same = [one for one in sets if without_empty(without_hash(one["spec"]["template"])) == without_empty(bare)]
        current = same[0] if same else None
        revision = max((int(one["metadata"]["annotations"][REVISION]) for one in sets), default=0)
        if current is None or current["metadata"]["annotations"][REVISION] != str(revision):
            revision += 1
            current = self.store(REPLICA_SETS, new_replica_set(deployment, bare, revision, current))
        if meta.get("annotations", {}).get(REVISION) != str(revision):
            self.store(DEPLOYMENTS, deployment | {"metadata": with_annotation(meta, REVISION, str(revision))})
        if current["spec"]["replicas"] != spec["replicas"]:
            current["spec"]["replicas"] = spec["replicas"]
            self.store(REPLICA_SETS, current)
        pods = self.owned(PODS, current)
        for pod in pods[spec["replicas"] :]:
            self.remove(PODS, meta["namespace"], pod["metadata"]["name"])
        for _ in range(len(pods), spec["replicas"]):
            self.born += 1
            self.store(PODS, new_pod(current, self.born))

    def finish_rollout(self, deployment):
        """Ends what older replica sets run, as far as the new pods are ready, and writes the status."""
        spec, revision = deployment["spec"], deployment["metadata"]["annotations"][REVISION]
        sets = self.owned(REPLICA_SETS, deployment)
        (current,) = [one for one in sets if one["metadata"]["annotations"][REVISION] == revision]
        pods = self.owned(PODS, current)
        is_done = all(is_ready(pod) for pod in pods)
        old = [pod for one in sets if one is not current for pod in self.owned(PODS, one)]
        for pod in old:
            if is_done or not is_ready(pod):
                self.remove(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"])
        left = [pod for one in sets if one is not current for pod in self.owned(PODS, one)]
        for one in sets:
            mine = self.owned(PODS, one)
            one["spec"]["replicas"] = spec["replicas"] if one is current else len(mine)
            ready = sum(map(is_ready, mine))
            one["status"] = {
                "replicas": len(mine),
                "readyReplicas": ready,
                "availableReplicas": ready,
                "observedGeneration": one["metadata"]["generation"],
            }
        ready = sum(map(is_ready, pods + left))
        since = {"lastUpdateTime": before_start(days=2), "lastTransitionTime": before_start(days=2)}
        available = ready >= spec["replicas"]
        is_late = current["metadata"]["creationTimestamp"] < before_start(minutes=10)
        progress = (
            "NewReplicaSetAvailable" if is_done else "ProgressDeadlineExceeded" if is_late else "ReplicaSetUpdated"
        )
        status = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": len(pods + left),
            "updatedReplicas": len(pods),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "unavailableReplicas": len(pods + left) - ready,
            "conditions": [
                {
                    "type": "Available",
                    "status": str(available),
                    **since,
                    "reason": "MinimumReplicasAvailable" if available else "MinimumReplicasUnavailable",
                    "message": "Deployment has minimum availability."
                    if available
                    else "Deployment does not have minimum availability.",
                },
                {
                    "type": "Progressing",
                    "status": str(progress != "ProgressDeadlineExceeded"),
                    **since,
                    "reason": progress,
                    "message": f'ReplicaSet "{current["metadata"]["name"]}" {PROGRESS[progress]}',
                },
            ],
        }
        if deployment.get("status") != status:
            self.version += 1
            deployment["status"] = status
            deployment["metadata"]["resourceVersion"] = str(self.version)
            self.report(DEPLOYMENTS, "MODIFIED", deployment)

    def find_endpoints(self, service):
        """The addresses of the pods that a service selects."""
        meta, spec = service["metadata"], service["spec"]
        if not spec.get("selector"):
            return
        pods = [
            pod
            for pod in self.in_namespace(PODS, meta["namespace"])
            if pod["status"].get("podIP") and matches(spec["selector"], pod["metadata"].get("labels", {}))
        ]
        pods.sort(key=lambda pod: pod["metadata"]["name"])
        ports = [
            {
                "port": number(port),
                "protocol": port.get("protocol", "TCP"),
                **({"name": port["name"]} if "name" in port else {}),
            }
            for port in spec.get("ports", [])
        ]
        target = [
            {
                "ip": pod["status"]["podIP"],
                "nodeName": "node-1",
                "targetRef": {
                    "kind": "Pod",
                    "name": pod["metadata"]["name"],
                    "namespace": meta["namespace"],
                    "uid": pod["metadata"]["uid"],
                },
            }
            for pod in pods
        ]
        split = {
            key: [one for one, pod in zip(target, pods, strict=True) if is_ready(pod) == ready]
            for key, ready in (("addresses", True), ("notReadyAddresses", False))
        }
        split = {key: value for key, value in split.items() if value}
        owner = [{"apiVersion": "v1", "kind": "Service", "name": meta["name"], "uid": meta["uid"], "controller": True}]
        place = {"name": meta["name"], "namespace": meta["namespace"], "ownerReferences": owner}
        subsets = {"subsets": [{**split, "ports": ports}]} if split else {}
        self.update(ENDPOINTS, {"metadata": dict(place), **subsets})
        self.update(
            SLICES,
            {
                "metadata": place
                | {"name": meta["name"] + "-x7k2p", "labels": {"kubernetes.io/service-name": meta["name"]}},
                "addressType": "IPv4",
                "ports": [{"name": "", **port} for port in ports],
                "endpoints": [
                    {
                        "addresses": [one["ip"]],
                        "conditions": {"ready": is_ready(pod)},
                        "nodeName": "node-1",
                        "targetRef": one["targetRef"],
                    }
                    for one, pod in zip(target, pods, strict=True)
                ],
            },
        )

    def update(self, resource, obj):
        old = self.objects[resource].get((obj["metadata"]["namespace"], obj["metadata"]["name"]))
        contents = [
            {key: value for key, value in one.items() if key not in ("apiVersion", "kind", "metadata")}
            for one in (old, obj)
            if one
        ]
        if old is None or contents[0] != contents[1]:
            self.store(resource, obj)


def number(port):
    target = port.get("targetPort", port["port"])
    return target if isinstance(target, int) else port["port"]


def matches(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


def with_annotation(meta, key, value):
    return {**meta, "annotations": {**meta.get("annotations", {}), key: value}}


def without_hash(template):
    labels = {key: value for key, value in template["metadata"]["labels"].items() if key != "pod-template-hash"}
    return {**template, "metadata": {**template["metadata"], "labels": labels}}


def without_empty(value):
    """A value without what an API server sets as defaults: clients that know the types write it out."""
    if isinstance(value, dict):
        pairs = {key: without_empty(inner) for key, inner in value.items()}
        return {key: inner for key, inner in pairs.items() if inner not in ({}, [], None)}
    return [without_empty(item) for item in value] if isinstance(value, list) else value


def owned_by(owner):
    return [
        {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def new_replica_set(deployment, template, revision, known):
    """The replica set of a template: a new one, or the known one of an earlier revision."""
    if known:
        return known | {"metadata": with_annotation(known["metadata"], REVISION, str(revision))}
    meta = deployment["metadata"]
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
    digest = "7d9f8c6b5d" if revision == 1 else digest
    labels = {**template["metadata"]["labels"], "pod-template-hash": digest}
    selector = {"matchLabels": {**deployment["spec"]["selector"]["matchLabels"], "pod-template-hash": digest}}
    return {
        "metadata": {
            "name": f"{meta['name']}-{digest}",
            "namespace": meta["namespace"],
            "labels": labels,
            "annotations": {REVISION: str(revision)},
            "ownerReferences": owned_by(deployment),
            "creationTimestamp": meta["creationTimestamp"] if revision == 1 else now(),
        },
        "spec": {
            "replicas": deployment["spec"]["replicas"],
            "selector": selector,
            "template": copy.deepcopy({**template, "metadata": {**template["metadata"], "labels": labels}}),
        },
    }


def new_pod(replica_set, number):
    meta, template = replica_set["metadata"], copy.deepcopy(replica_set["spec"]["template"])
    return {
        "metadata": {
            "name": f"{meta['name']}-{number:05}",
            "namespace": meta["namespace"],
            "labels": template["metadata"]["labels"],
            "ownerReferences": owned_by(replica_set),
            "annotations": template["metadata"].get("annotations", {}),
            "creationTimestamp": meta["creationTimestamp"],
        },
        "spec": template["spec"],
        "status": {"phase": "Pending"},
    }
