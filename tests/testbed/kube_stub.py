#!/usr/bin/env python3
"""A stub of the Kubernetes API server: as much of it as kubectl, Helm and MCP servers ask for, on 127.0.0.1, in memory.

    kube_stub.py [--port N] [--kubeconfig FILE]

It prints `listening on http://127.0.0.1:PORT` when it can be used (port 0 takes a free one), and writes a kubeconfig
that points at it. No registry ships a real API server; this one answers discovery, get, list (also as Table), create,
update, patch (JSON, merge, strategic merge, apply), delete, watch, logs, scale and dry runs over a small fixed cluster
(kube_workloads.py) whose controllers run (kube_cluster.py). It keeps a journal by which a test can prove what was done
to it, and how often:

    GET    /__stub/journal   [{"method", "path", "query"}, ...] of every Kubernetes request so far, oldest first
    DELETE /__stub/journal   forgets them
    PUT    /__stub/delay     {"method": "DELETE", "ms": 1500}: from now on such a request takes effect at once, but its
                             answer comes that much later (0 ends it)

It checks no credentials and validates no objects.
"""

import argparse
import copy
import json
import os
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import kube_patches
import kube_protobuf
import kube_tables
from kube_cluster import RESOURCES, Cluster, Failure, api_version, field
from kube_discovery import OPENAPI_V2, aggregated_discovery, discovery, openapi_v3
from kube_workloads import pod_log


def split_terms(selector):
    """The terms of a label selector: `a=b,c in (d,e)` has two."""
    terms, depth = [""], 0
    for char in selector:
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            terms.append("")
        else:
            terms[-1] += char
    return [term.strip() for term in terms if term.strip()]


def holds(term, read):
    """Whether a term of a selector holds for an object, whose values `read` returns: `None` if it has none."""
    for word, wanted in ((" notin ", False), (" in ", True)):
        if word in term:
            key, _, values = term.partition(word)
            return (read(key.strip()) in [value.strip() for value in values.strip(" ()").split(",")]) == wanted
    if "=" in term:
        negative = "!=" in term
        key, _, value = term.replace("!=", "=").replace("==", "=").partition("=")
        return ((read(key.strip()) or "") == value.strip()) != negative
    return (read(term.lstrip("!")) is None) == term.startswith("!")


def selected(obj, query):
    """Whether `obj` passes the label and field selectors of a list."""
    labels = obj["metadata"].get("labels", {})
    readers = {"labelSelector": labels.get, "fieldSelector": lambda key: field(obj, key)}
    return all(holds(term, read) for name, read in readers.items() for term in split_terms(query.get(name, [""])[0]))


def as_scale(deployment):
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    meta = {key: deployment["metadata"][key] for key in kept}
    selector = ",".join(f"{key}={value}" for key, value in deployment["spec"]["selector"]["matchLabels"].items())
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": meta,
        "spec": {"replicas": deployment["spec"]["replicas"]},
        "status": {"replicas": deployment["status"]["replicas"], "selector": selector},
    }


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
        if self.command == "GET" and query.get("watch") in (["true"], ["1"]):
            return self.watch(url, query)
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
                answer = {
                    "kind": "Status",
                    "apiVersion": "v1",
                    "metadata": {},
                    "status": "Failure",
                    "message": str(failure),
                    "reason": failure.reason,
                    "code": code,
                }
            kind = "application/json"
            if isinstance(answer, str):
                kind, payload = "text/plain", answer.encode()
            elif isinstance(answer, bytes):
                kind, payload = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf", answer
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

    def watch(self, url, query):
        """Reports changes until the client goes, or until the time that it asks for is over."""
        self.close_connection = True
        end = time.monotonic() + float(query.get("timeoutSeconds", ["60"])[0])
        resource, namespace, name = self.place(url.path)[:3]
        if name:
            query = {**query, "fieldSelector": [f"metadata.name={name}"]}
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()

        def is_wanted(obj):
            return namespace in ("", obj["metadata"].get("namespace", "")) and selected(obj, query)

        with self.cluster.lock:
            self.journal.append({"method": "GET", "path": url.path, "query": url.query})
            seen, since = len(self.cluster.changes), query.get("resourceVersion", ["0"])[0]
            if since not in ("", "0") and "sendInitialEvents" not in query:
                pending = [change[1:] for change in self.cluster.changes if change[0] > int(since)]
            else:
                pending = [(resource, "ADDED", obj) for obj in self.cluster.objects[resource].values()]
            pending = copy.deepcopy(pending)
            version = self.cluster.version
        try:
            while True:
                for of, change, obj in pending:
                    if of == resource and is_wanted(obj):
                        self.wfile.write(json.dumps({"type": change, "object": obj}).encode() + b"\n")
                if "sendInitialEvents" in query and version:
                    mark = {"resourceVersion": str(version), "annotations": {"k8s.io/initial-events-end": "true"}}
                    bookmark = {"kind": RESOURCES[resource][0], "apiVersion": api_version(resource), "metadata": mark}
                    self.wfile.write(json.dumps({"type": "BOOKMARK", "object": bookmark}).encode() + b"\n")
                    version = 0
                self.wfile.flush()
                with self.cluster.lock:
                    left = end - time.monotonic()
                    if left <= 0 or (len(self.cluster.changes) <= seen and not self.cluster.lock.wait(min(left, 5))):
                        if left <= 0:
                            return
                        pending = []
                        continue
                    pending, seen = [change[1:] for change in self.cluster.changes[seen:]], len(self.cluster.changes)
        except OSError:
            return

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
        snapshot = self.cluster.snapshot()
        try:
            return copy.deepcopy(self.route(path, query, body))
        finally:
            self.cluster.restore(snapshot)

    def route(self, path, query, body):
        parts = [urllib.parse.unquote(part) for part in path.split("/") if part]
        if parts in (["healthz"], ["livez"], ["readyz"]):
            return "ok"
        if parts == ["version"]:
            return {"major": "1", "minor": "35", "gitVersion": "v1.35.0", "platform": "linux/amd64"}
        if parts[:2] == ["openapi", "v3"]:
            return openapi_v3(parts[2:])
        if parts == ["openapi", "v2"]:
            return OPENAPI_V2
        if parts in (["api"], ["apis"]) and "apidiscovery" in self.headers.get("Accept", ""):
            return aggregated_discovery(core=parts == ["api"])
        if parts in (["api"], ["apis"]) or (len(parts), *parts[:1]) in ((2, "api"), (3, "apis")):
            answer = discovery(parts)
            if answer:
                return answer
        resource, namespace, name, sub = self.place(path)
        if resource[2] == "selfsubjectaccessreviews":
            # The question comes as protobuf; the answer is the same to every one, and JSON is taken.
            return {
                "kind": "SelfSubjectAccessReview",
                "apiVersion": "authorization.k8s.io/v1",
                "metadata": {},
                "spec": {},
                "status": {"allowed": True},
            }
        if sub:
            return self.subresource(resource, namespace, name, sub, query, body)
        if name:
            return self.one(resource, namespace, name, body)
        return self.many(resource, namespace, query, body)

    @staticmethod
    def place(path):
        """The resource, namespace, name and subresource of a path; empty texts for what it does not name."""
        unknown = Failure(404, "NotFound", "the server could not find the requested resource")
        parts = [urllib.parse.unquote(part) for part in path.split("/") if part]
        if parts[:1] == ["api"] and len(parts) >= 3:
            group, version, rest = "", parts[1], parts[2:]
        elif parts[:1] == ["apis"] and len(parts) >= 4:
            group, version, rest = parts[1], parts[2], parts[3:]
        else:
            raise unknown
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        resource = (group, version, rest[0])
        if resource not in RESOURCES or len(rest) > 3:
            raise unknown
        return resource, namespace, *(rest[1:] + ["", ""])[:2]

    def many(self, resource, namespace, query, body):
        if self.command == "POST":
            obj = self.parse(body)
            if namespace:
                obj["metadata"]["namespace"] = namespace
            if (namespace, obj["metadata"]["name"]) in self.cluster.objects[resource]:
                raise Failure(409, "AlreadyExists", f'{resource[2]} "{obj["metadata"]["name"]}" already exists')
            return self.cluster.put(resource, obj)
        if self.command != "GET":
            raise Failure(405, "MethodNotAllowed", "the stub does not do this to a collection")
        items = [
            obj
            for (where, _), obj in sorted(self.cluster.objects[resource].items())
            if namespace in ("", where) and selected(obj, query)
        ]
        list_meta = {"resourceVersion": str(self.cluster.version)}
        if "as=Table" in self.headers.get("Accept", ""):
            return kube_tables.as_table(resource, items, list_meta)
        kind = RESOURCES[resource][0] + "List"
        return {"kind": kind, "apiVersion": api_version(resource), "metadata": list_meta, "items": items}

    def one(self, resource, namespace, name, body):
        if self.command == "GET":
            obj = self.cluster.get(resource, namespace, name)
            if "as=Table" in self.headers.get("Accept", ""):
                return kube_tables.as_table(resource, [obj], {"resourceVersion": str(self.cluster.version)})
            return obj
        if self.command == "DELETE":
            return self.cluster.delete(resource, namespace, name)
        if self.command == "PUT":
            known, obj = self.cluster.get(resource, namespace, name)["metadata"], self.parse(body)
            if obj["metadata"].get("resourceVersion") not in (None, "", known["resourceVersion"]):
                raise Failure(
                    409,
                    "Conflict",
                    f'Operation cannot be fulfilled on {resource[2]} "{name}": the object has been '
                    "modified; please apply your changes to the latest version and try again",
                )
            obj["metadata"] |= {"name": name, **({"namespace": namespace} if namespace else {})}
            return self.cluster.put(resource, obj)
        if self.command == "PATCH":
            obj = copy.deepcopy(self.cluster.objects[resource].get((namespace, name)))
            if obj is None:
                if "apply" not in self.headers.get("Content-Type", ""):
                    self.cluster.get(resource, namespace, name)  # only an apply creates what is not there
                obj = {"metadata": {"name": name, **({"namespace": namespace} if namespace else {})}}
            return self.cluster.put(resource, self.patched(obj, self.parse(body)))
        raise Failure(405, "MethodNotAllowed", "the stub does not do this to an object")

    def patched(self, obj, patch):
        kind = self.headers.get("Content-Type", "").partition(";")[0]
        edits = {
            "application/json-patch+json": kube_patches.json_patch,
            "application/merge-patch+json": kube_patches.merge,
            "application/strategic-merge-patch+json": kube_patches.merge_strategically,
            "application/apply-patch+yaml": kube_patches.apply,
        }
        if kind not in edits:
            raise Failure(415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {kind}")
        try:
            return edits[kind](obj, patch)
        except kube_patches.BadPatch as error:
            raise Failure(
                422, "Invalid", f"the server rejected our request due to an error in our request: {error}"
            ) from None

    def subresource(self, resource, namespace, name, sub, query, body):
        if sub not in RESOURCES[resource][3]:
            raise Failure(404, "NotFound", "the server could not find the requested resource")
        obj = self.cluster.get(resource, namespace, name)
        if sub == "log":
            return self.log(obj, query)
        if self.command in ("PUT", "PATCH"):
            scale = self.parse(body)
            changed = copy.deepcopy(obj)
            if self.command == "PATCH":
                scale = self.patched(as_scale(obj), scale)
            changed["spec"]["replicas"] = scale["spec"].get("replicas", 0)
            obj = self.cluster.put(resource, changed)
        return as_scale(obj)

    @staticmethod
    def log(pod, query):
        statuses = pod["status"].get("containerStatuses")
        name = pod["metadata"]["name"]
        if not statuses:
            raise Failure(400, "BadRequest", f"pod {name} does not have a host assigned")
        waiting = statuses[0]["state"].get("waiting", {}).get("reason")
        if waiting and not statuses[0]["restartCount"]:
            why = "trying and failing to pull image" if waiting == "ImagePullBackOff" else waiting
            raise Failure(
                400, "BadRequest", f'container "{statuses[0]["name"]}" in pod "{name}" is waiting to start: {why}'
            )
        if query.get("previous") == ["true"] and not statuses[0]["restartCount"]:
            raise Failure(
                400, "BadRequest", f'previous terminated container "{statuses[0]["name"]}" in pod "{name}" not found'
            )
        lines = pod_log(pod).splitlines(keepends=True)
        tail = int(query.get("tailLines", ["-1"])[0])
        return "".join(lines[max(0, len(lines) - tail) :] if tail >= 0 else lines)

    @staticmethod
    def parse(body):
        try:
            obj = kube_protobuf.read_object(body) if kube_protobuf.is_protobuf(body) else json.loads(body)
        except ValueError:
            obj = None
        if obj is None:
            raise Failure(415, "UnsupportedMediaType", "the stub reads JSON, and of protobuf only a few kinds")
        return obj


def kubeconfig(url):
    """As JSON, which is YAML too. The token is there to be asked for, like the Secret."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "stub",
            "clusters": [{"name": "stub", "cluster": {"server": url}}],
            "users": [{"name": "stub", "user": {"token": "stub-bearer-token-not-to-be-shown"}}],
            "contexts": [{"name": "stub", "context": {"cluster": "stub", "user": "stub", "namespace": "default"}}],
        },
        indent=2,
    )


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
        os.chmod(arguments.kubeconfig, 0o600)  # Helm warns of others
    print(f"listening on {url}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
