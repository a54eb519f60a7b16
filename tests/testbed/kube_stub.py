#!/usr/bin/env python3
"""A stub of the Kubernetes API server: as much of it as kubernetes-mcp-server asks for, on 127.0.0.1, in memory.

    kube_stub.py [--port N] [--kubeconfig FILE]

It prints `listening on http://127.0.0.1:PORT` when it can be used (port 0 takes a free one), and writes a kubeconfig
that points at it. No registry ships a real API server; this one answers discovery, get, list (also as Table), create,
update, patch, delete, logs and scale over a small fixed cluster, and keeps a journal by which a test can prove what was
done to it, and how often:

    GET    /__stub/journal   [{"method", "path", "query"}, ...] of every Kubernetes request so far, oldest first
    DELETE /__stub/journal   forgets them
    PUT    /__stub/delay     {"method": "DELETE", "ms": 1500}: from now on such a request takes effect at once, but its
                             answer comes that much later (0 ends it)

It checks no credentials and validates no objects.
"""

import argparse
import copy
import datetime
import json
import threading
import time
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# (group, version, plural): (kind, namespaced, short names, subresources)
RESOURCES = {
    ("", "v1", "configmaps"): ("ConfigMap", True, ["cm"], []),
    ("", "v1", "events"): ("Event", True, ["ev"], []),
    ("", "v1", "namespaces"): ("Namespace", False, ["ns"], []),
    ("", "v1", "nodes"): ("Node", False, ["no"], []),
    ("", "v1", "pods"): ("Pod", True, ["po"], ["log"]),
    ("", "v1", "secrets"): ("Secret", True, [], []),
    ("", "v1", "services"): ("Service", True, ["svc"], []),
    ("apps", "v1", "deployments"): ("Deployment", True, ["deploy"], ["scale"]),
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews"): ("SelfSubjectAccessReview", False, [], []),
}
PODS, DEPLOYMENTS = ("", "v1", "pods"), ("apps", "v1", "deployments")
VERBS = ["create", "delete", "get", "list", "patch", "update"]

PAYMENTS_LOG = """\
2025-01-01T00:00:00Z INFO payments 3.2.1 starting
2025-01-01T00:00:00Z INFO reading configuration from the environment
2025-01-01T00:00:00Z FATAL missing env PAYMENTS_DB_URL
"""
HEALTHY_LOG = "".join(f"2025-01-01T00:{minute:02}:00Z INFO GET /healthz 200\n" for minute in range(60))

START = datetime.datetime.now(datetime.UTC)


def before_start(**ago):
    return (START - datetime.timedelta(**ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def api_version(resource):
    group, version, _ = resource
    return f"{group}/{version}" if group else version


class Failure(Exception):
    """An answer other than success, as the API server words it."""

    def __init__(self, code, reason, message):
        super().__init__(message)
        self.code, self.reason = code, reason


class Cluster:
    """The objects, by resource and then by (namespace, name). Every method expects `lock` to be held."""

    def __init__(self):
        self.lock = threading.Lock()
        self.objects = {resource: {} for resource in RESOURCES}
        self.version = 0
        self.born = 0
        self.fill()

    # -- objects

    def get(self, resource, namespace, name):
        try:
            return self.objects[resource][namespace, name]
        except KeyError:
            plural = resource[2] + (f".{resource[0]}" if resource[0] else "")
            raise Failure(404, "NotFound", f'{plural} "{name}" not found') from None

    def put(self, resource, obj):
        """Stores `obj`, new or in place of the one of its name, and lets what depends on it follow."""
        kind, namespaced, _, _ = RESOURCES[resource]
        self.version += 1
        meta = obj.setdefault("metadata", {})
        obj["apiVersion"], obj["kind"] = api_version(resource), kind
        namespace = meta.setdefault("namespace", "default") if namespaced else ""
        known = self.objects[resource].get((namespace, meta["name"]), {}).get("metadata", {})
        meta.setdefault("uid", known.get("uid") or str(uuid.uuid5(uuid.NAMESPACE_OID, f"{kind} {self.version}")))
        meta.setdefault("creationTimestamp", known.get("creationTimestamp") or before_start())
        meta["resourceVersion"] = str(self.version)
        self.objects[resource][namespace, meta["name"]] = obj
        if resource == DEPLOYMENTS:
            self.reconcile(obj)
        return obj

    def delete(self, resource, namespace, name):
        obj = self.get(resource, namespace, name)
        del self.objects[resource][namespace, name]
        if resource == DEPLOYMENTS:
            self.objects[PODS] = {key: pod for key, pod in self.objects[PODS].items() if not owns(obj, pod)}
        if resource == PODS:
            for deployment in list(self.objects[DEPLOYMENTS].values()):
                if owns(deployment, obj):
                    self.reconcile(deployment)
        return obj

    def reconcile(self, deployment):
        """What the controllers of a real cluster do: as many pods as the deployment asks for, and its status."""
        meta, wanted = deployment["metadata"], deployment["spec"].get("replicas", 1)
        pods = [pod for pod in self.objects[PODS].values() if owns(deployment, pod)]
        for pod in pods[wanted:]:
            del self.objects[PODS][meta["namespace"], pod["metadata"]["name"]]
        for _ in range(len(pods), wanted):
            self.born += 1
            self.put(PODS, new_pod(deployment, f"{meta['name']}-7d9f8c6b5d-{self.born:05}"))
        ready = sum(is_ready(pod) for pod in self.objects[PODS].values() if owns(deployment, pod))
        deployment["status"] = {
            "replicas": wanted, "updatedReplicas": wanted, "readyReplicas": ready,
            "availableReplicas": ready, "unavailableReplicas": wanted - ready,
        }

    # -- the fixed cluster

    def fill(self):
        for name in ("default", "shop"):
            self.add("", "namespaces", name, "", {"status": {"phase": "Active"}})
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        self.add("", "nodes", "node-1", "", {"status": {"conditions": [ready]}})
        self.deployment("default", "hello", 1, "registry.example/hello:1.0.0")
        self.deployment("shop", "cart", 2, "registry.example/cart:2.4.0")
        self.deployment("shop", "frontend", 2, "registry.example/frontend:5.1.3")
        self.deployment("shop", "payments", 1, "registry.example/payments:3.2.1")
        self.add("", "services", "payments", "shop", {
            "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.20", "selector": {"app": "payments"},
                     "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]}})
        self.add("", "configmaps", "payments", "shop", {"data": {"LOG_LEVEL": "info"}})
        # Here to be asked for: nothing of it may reach a model, a log or a client unmasked.
        self.add("", "secrets", "payments-db", "shop", {
            "type": "Opaque", "data": {"password": "aHVudGVyMi1zdHViLXNlY3JldA=="}})
        (crashing,) = [pod for pod in self.objects[PODS].values() if not is_ready(pod)]
        self.event(crashing, "Warning", "BackOff", 41,
                   "Back-off restarting failed container payments in pod " + crashing["metadata"]["name"])
        self.event(crashing, "Normal", "Pulled", 8,
                   'Container image "registry.example/payments:3.2.1" already present on machine')

    def add(self, group, plural, name, namespace, body):
        meta = {"name": name, "creationTimestamp": before_start(days=2)}
        if namespace:
            meta["namespace"] = namespace
        return self.put((group, "v1", plural), {"metadata": meta, **body})

    def deployment(self, namespace, name, replicas, image):
        labels = {"app": name}
        self.add("apps", "deployments", name, namespace, {
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels},
                     "template": {"metadata": {"labels": labels},
                                  "spec": {"containers": [{"name": name, "image": image}]}}}})

    def event(self, pod, level, reason, count, message):
        meta = pod["metadata"]
        self.add("", "events", f"{meta['name']}.{reason.lower()}", meta["namespace"], {
            "type": level, "reason": reason, "message": message, "count": count,
            "firstTimestamp": before_start(minutes=50), "lastTimestamp": before_start(minutes=1),
            "source": {"component": "kubelet", "host": "node-1"},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": meta["name"],
                               "namespace": meta["namespace"], "uid": meta["uid"]}})


def owns(deployment, pod):
    mine, wanted = pod["metadata"].get("labels", {}), deployment["spec"]["selector"]["matchLabels"]
    same_namespace = pod["metadata"]["namespace"] == deployment["metadata"]["namespace"]
    return same_namespace and all(mine.get(key) == value for key, value in wanted.items())


def is_ready(pod):
    return all(status["ready"] for status in pod.get("status", {}).get("containerStatuses", [{"ready": False}]))


def new_pod(deployment, name):
    template = copy.deepcopy(deployment["spec"]["template"])
    container = template["spec"]["containers"][0]
    status = {"name": container["name"], "image": container["image"], "ready": True, "started": True, "restartCount": 0,
              "state": {"running": {"startedAt": before_start(days=2)}}}
    if container["name"] == "payments":  # broken by its configuration, so every pod of it is
        status |= {
            "ready": False, "started": False, "restartCount": 7,
            "state": {"waiting": {"reason": "CrashLoopBackOff",
                                  "message": "back-off 5m0s restarting failed container=payments pod=" + name}},
            "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "startedAt": before_start(minutes=6),
                                         "finishedAt": before_start(minutes=6)}}}
    ready = "True" if status["ready"] else "False"
    return {
        "metadata": {"name": name, "namespace": deployment["metadata"]["namespace"],
                     "labels": template["metadata"]["labels"], "creationTimestamp": before_start(days=2)},
        "spec": {**template["spec"], "nodeName": "node-1", "restartPolicy": "Always"},
        "status": {"phase": "Running", "podIP": "10.244.0.7", "hostIP": "10.0.0.1", "startTime": before_start(days=2),
                   "conditions": [{"type": "Ready", "status": ready}], "containerStatuses": [status]}}


# -- what the API server makes of the objects


def age(obj):
    created = datetime.datetime.fromisoformat(obj["metadata"]["creationTimestamp"].replace("Z", "+00:00"))
    seconds = max(0, int((datetime.datetime.now(datetime.UTC) - created).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def pod_cells(pod):
    statuses = pod.get("status", {}).get("containerStatuses", [])
    waiting = [s["state"]["waiting"]["reason"] for s in statuses if "waiting" in s["state"]]
    return [f"{sum(s['ready'] for s in statuses)}/{len(statuses)}",
            waiting[0] if waiting else pod.get("status", {}).get("phase", "Pending"),
            sum(s["restartCount"] for s in statuses)]


def deployment_cells(deployment):
    status = deployment["status"]
    return [f"{status['readyReplicas']}/{status['replicas']}", status["updatedReplicas"], status["availableReplicas"]]


# The columns between the name and the age.
COLUMNS = {
    "pods": (["Ready", "Status", "Restarts"], pod_cells),
    "deployments": (["Ready", "Up-to-date", "Available"], deployment_cells),
    "namespaces": (["Status"], lambda obj: [obj.get("status", {}).get("phase", "Active")]),
    "events": (["Type", "Reason", "Object", "Message"], lambda obj: [
        obj.get("type"), obj.get("reason"), f"pod/{obj['involvedObject']['name']}", obj.get("message")]),
}


def as_table(resource, items, list_meta):
    titles, cells = COLUMNS.get(resource[2], ([], lambda obj: []))
    columns = [{"name": title, "type": "string", "format": "name" if title == "Name" else "", "description": title,
                "priority": 0} for title in ["Name", *titles, "Age"]]
    rows = [{"cells": [obj["metadata"]["name"], *cells(obj), age(obj)], "object": obj} for obj in items]
    return {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": list_meta,
            "columnDefinitions": columns, "rows": rows}


def field(obj, path):
    for part in path.split("."):
        obj = obj.get(part, {}) if isinstance(obj, dict) else {}
    return "" if obj == {} else str(obj)


def selected(obj, query):
    """Whether `obj` passes the label and field selectors of a list; equality is all that is understood."""
    labels = obj["metadata"].get("labels", {})
    readers = {"labelSelector": lambda key: labels.get(key, ""), "fieldSelector": lambda key: field(obj, key)}
    for name, read in readers.items():
        for term in filter(None, query.get(name, [""])[0].split(",")):
            negative = "!=" in term
            key, _, value = term.replace("!=", "=").replace("==", "=").partition("=")
            if (read(key.strip()) == value.strip()) == negative:
                return False
    return True


def as_scale(deployment):
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    meta = {key: deployment["metadata"][key] for key in kept}
    selector = ",".join(f"{key}={value}" for key, value in deployment["spec"]["selector"]["matchLabels"].items())
    return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta,
            "spec": {"replicas": deployment["spec"]["replicas"]},
            "status": {"replicas": deployment["status"]["replicas"], "selector": selector}}


def merge(into, patch):
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value
    return into


def discovery(core):
    """Aggregated discovery, which is all that clients of today ask first."""
    groups = {}
    for (group, version, plural), (kind, namespaced, short, subresources) in RESOURCES.items():
        if (group == "") != core:
            continue
        kind_of = {"group": group, "version": version, "kind": kind}
        entry = {"resource": plural, "responseKind": kind_of, "scope": "Namespaced" if namespaced else "Cluster",
                 "singularResource": kind.lower(), "shortNames": short,
                 "verbs": ["create"] if kind == "SelfSubjectAccessReview" else VERBS,
                 "subresources": [{"subresource": sub, "verbs": ["get"] if sub == "log" else ["get", "patch", "update"],
                                   "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}
                                   if sub == "scale" else kind_of} for sub in subresources]}
        groups.setdefault(group, {}).setdefault(version, []).append(entry)
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": [
        {"metadata": {"name": group} if group else {}, "versions": [
            {"version": version, "resources": entries, "freshness": "Current"}
            for version, entries in versions.items()]}
        for group, versions in groups.items()]}


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster = Cluster()
    journal = []
    delays = {}

    def log_message(self, *_):
        pass  # the journal is the log

    def handle_any(self):
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        delay = 0
        with self.cluster.lock:
            try:
                if url.path.startswith("/__stub/"):
                    answer = self.stub(url.path, body)
                else:
                    self.journal.append({"method": self.command, "path": url.path, "query": url.query})
                    delay = self.delays.get(self.command, 0)
                    answer = self.route_or_dry_run(url.path, query, body)
                code = 201 if self.command == "POST" else 200
            except Failure as failure:
                code = failure.code
                answer = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                          "message": str(failure), "reason": failure.reason, "code": code}
            kind = "application/json"
            if isinstance(answer, str):
                kind, payload = "text/plain", answer.encode()
            else:
                payload = json.dumps(answer).encode()
                if isinstance(answer, dict) and answer.get("kind") == "APIGroupDiscoveryList":
                    kind += ";g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        time.sleep(delay / 1000)
        try:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)
        except OSError:
            self.close_connection = True  # the client has disconnected; its request is still carried out

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

    def stub(self, path, body):
        if (self.command, path) == ("GET", "/__stub/journal"):
            return list(self.journal)
        if (self.command, path) == ("DELETE", "/__stub/journal"):
            self.journal.clear()
            return {}
        if (self.command, path) == ("PUT", "/__stub/delay"):
            wanted = json.loads(body)
            self.delays[wanted["method"]] = wanted["ms"]
            return {}
        raise Failure(404, "NotFound", "the stub has no such page")

    def route_or_dry_run(self, path, query, body):
        if "dryRun" not in query:
            return self.route(path, query, body)
        cluster = self.cluster
        kept = copy.deepcopy((cluster.objects, cluster.version, cluster.born))
        try:
            return copy.deepcopy(self.route(path, query, body))
        finally:
            cluster.objects, cluster.version, cluster.born = kept

    def route(self, path, query, body):
        parts = [urllib.parse.unquote(part) for part in path.split("/") if part]
        if parts in (["healthz"], ["livez"], ["readyz"]):
            return "ok"
        if parts == ["version"]:
            return {"major": "1", "minor": "35", "gitVersion": "v1.35.0-stub", "platform": "linux/amd64"}
        if parts in (["api"], ["apis"]):
            return discovery(core=parts == ["api"])
        if parts[:1] == ["api"] and len(parts) >= 3:
            group, version, rest = "", parts[1], parts[2:]
        elif parts[:1] == ["apis"] and len(parts) >= 4:
            group, version, rest = parts[1], parts[2], parts[3:]
        else:
            raise Failure(404, "NotFound", "the server could not find the requested resource")
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        resource = (group, version, rest[0])
        if resource not in RESOURCES or len(rest) > 3:
            raise Failure(404, "NotFound", "the server could not find the requested resource")
        if resource[2] == "selfsubjectaccessreviews":
            # The question comes as protobuf; the answer is the same to every one, and JSON is taken.
            return {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {},
                    "spec": {}, "status": {"allowed": True}}
        if len(rest) == 3:
            return self.subresource(resource, namespace, rest[1], rest[2], query, body)
        if len(rest) == 2:
            return self.one(resource, namespace, rest[1], body)
        return self.many(resource, namespace, query, body)

    def many(self, resource, namespace, query, body):
        if self.command == "POST":
            obj = self.parse(body)
            if namespace:
                obj["metadata"]["namespace"] = namespace
            if (namespace, obj["metadata"]["name"]) in self.cluster.objects[resource]:
                raise Failure(409, "AlreadyExists", f'{resource[2]} "{obj["metadata"]["name"]}" already exists')
            return self.cluster.put(resource, obj)
        if self.command != "GET" or "watch" in query:
            raise Failure(405, "MethodNotAllowed", "the stub does not do this to a collection")
        items = [obj for (where, _), obj in sorted(self.cluster.objects[resource].items())
                 if namespace in ("", where) and selected(obj, query)]
        list_meta = {"resourceVersion": str(self.cluster.version)}
        if "as=Table" in self.headers.get("Accept", ""):
            return as_table(resource, items, list_meta)
        kind = RESOURCES[resource][0] + "List"
        return {"kind": kind, "apiVersion": api_version(resource), "metadata": list_meta, "items": items}

    def one(self, resource, namespace, name, body):
        if self.command == "GET":
            return self.cluster.get(resource, namespace, name)
        if self.command == "DELETE":
            return self.cluster.delete(resource, namespace, name)
        if self.command == "PUT":
            self.cluster.get(resource, namespace, name)
            return self.cluster.put(resource, self.parse(body))
        if self.command == "PATCH":
            obj = copy.deepcopy(self.cluster.objects[resource].get((namespace, name)))
            if obj is None:
                if "apply" not in self.headers.get("Content-Type", ""):
                    self.cluster.get(resource, namespace, name)  # only an apply creates what is not there
                obj = {"metadata": {"name": name, **({"namespace": namespace} if namespace else {})}}
            return self.cluster.put(resource, merge(obj, self.parse(body)))
        raise Failure(405, "MethodNotAllowed", "the stub does not do this to an object")

    def subresource(self, resource, namespace, name, sub, query, body):
        if sub not in RESOURCES[resource][3]:
            raise Failure(404, "NotFound", "the server could not find the requested resource")
        obj = self.cluster.get(resource, namespace, name)
        if sub == "log":
            text = PAYMENTS_LOG if obj["metadata"].get("labels", {}).get("app") == "payments" else HEALTHY_LOG
            tail = int(query.get("tailLines", ["-1"])[0])
            lines = text.splitlines(keepends=True)
            return "".join(lines[max(0, len(lines) - tail):] if tail >= 0 else lines)
        if self.command in ("PUT", "PATCH"):
            changed = copy.deepcopy(obj)
            changed["spec"]["replicas"] = self.parse(body)["spec"].get("replicas", 0)
            obj = self.cluster.put(resource, changed)
        return as_scale(obj)

    @staticmethod
    def parse(body):
        try:
            return json.loads(body)
        except ValueError:
            raise Failure(400, "BadRequest", "the stub reads only JSON") from None


def kubeconfig(url):
    """As JSON, which is YAML too. The token is there to be asked for, like the Secret."""
    return json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "stub",
        "clusters": [{"name": "stub", "cluster": {"server": url}}],
        "users": [{"name": "stub", "user": {"token": "stub-bearer-token-not-to-be-shown"}}],
        "contexts": [{"name": "stub", "context": {"cluster": "stub", "user": "stub", "namespace": "default"}}],
    }, indent=2)


def main():
    arguments = argparse.ArgumentParser(description="a stub of the Kubernetes API server, on 127.0.0.1")
    arguments.add_argument("--port", type=int, default=0)
    arguments.add_argument("--kubeconfig", metavar="FILE", help="where to write a kubeconfig that points at the stub")
    arguments = arguments.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", arguments.port), Api)
    server.daemon_threads = True
    url = f"http://127.0.0.1:{server.server_address[1]}"
    if arguments.kubeconfig:
        with open(arguments.kubeconfig, "w", encoding="utf-8") as file:
            file.write(kubeconfig(url))
    print(f"listening on {url}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
