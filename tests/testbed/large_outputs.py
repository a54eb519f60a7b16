"""An MCP server over stdio whose tools return more than any model can take in: `pods`, `secrets` and `log`; and `echo`, which returns a word.

Each of the three has one thing in it that matters. Only Python's own library is needed.
"""

import base64
import json
import sys


def pods():
    """A listing of 14,000 pods as the API gives it; one crashes."""
    items = []
    for n in range(14_000):
        sick = n == 7_000
        state = {"waiting": {"reason": "CrashLoopBackOff"}} if sick else {"running": {"startedAt": "2026-11-20T10:00:00Z"}}
        items.append({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": f"payments-api-{n}", "namespace": "shop", "creationTimestamp": "2026-11-20T10:00:00Z",
                "uid": f"0f1c0a1e-59a4-4b8e-9c3c-{n:012}", "labels": {"app": "payments", "pod-template-hash": "7d9f8c6b5d"},
                "managedFields": [{"manager": "kubelet", "operation": "Update", "fieldsV1": {
                    "f:status": {f"f:field{i}": {} for i in range(60)}}}],
            },
            "spec": {"nodeName": f"node-{n % 100}", "containers": [{
                "name": "api", "image": "registry/payments:1.2",
                "env": [{"name": f"VARIABLE_{i}", "value": f"value-{i}"} for i in range(20)]}]},
            "status": {"phase": "Running", "containerStatuses": [{
                "name": "api", "ready": not sick, "restartCount": 41 if sick else 0, "state": state}]},
        })
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def secrets():
    """Three megabytes of Secrets."""
    text = ["apiVersion: v1\nitems:\n"]
    size = 0
    n = 0
    while size < 3_000_000:
        value = base64.b64encode(f"value-of-secret-{n}-{n * 7919:x}".encode()).decode()
        item = f"- apiVersion: v1\n  data:\n    password: {value}\n  kind: Secret\n  metadata:\n    name: secret-{n}\n  type: Opaque\n"
        text.append(item)
        size += len(item)
        n += 1
    text.append("kind: List\n")
    return "".join(text)


def log():
    """A hundred megabytes of a log with one error in it."""
    lines = []
    size = 0
    n = 0
    while size < 100_000_000:
        line = f"2026-11-23T09:{n // 60 % 60:02}:{n % 60:02}Z INFO request {n:08x} of user {n * 7919 % 100003} served in {n % 97}ms\n"
        if n == 600_000:
            line = "2026-11-23T10:00:00Z ERROR payment 4711 was refused by the bank\n"
        lines.append(line)
        size += len(line)
        n += 1
    return "".join(lines)


def echo():
    """One word."""
    return "echo"


TOOLS = {"pods": pods, "secrets": secrets, "log": log, "echo": echo}


def main():
    for line in sys.stdin:
        request = json.loads(line)
        if "id" not in request:
            continue
        method = request["method"]
        reply = {"jsonrpc": "2.0", "id": request["id"]}
        if method == "initialize":
            reply["result"] = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                               "serverInfo": {"name": "large-outputs", "version": "1"}}
        elif method == "tools/list":
            reply["result"] = {"tools": [
                {"name": name, "description": tool.__doc__, "inputSchema": {"type": "object"},
                 "annotations": {"readOnlyHint": True}} for name, tool in TOOLS.items()]}
        elif method == "tools/call":
            text = TOOLS[request["params"]["name"]]()
            reply["result"] = {"content": [{"type": "text", "text": text}]}
        elif method == "ping":
            reply["result"] = {}
        else:
            reply["error"] = {"code": -32601, "message": "method not found"}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
