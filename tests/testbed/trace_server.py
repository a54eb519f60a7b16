"""An MCP server that tells what it was sent of a trace. `whence` reads, `change` changes and counts.

Over HTTP, and says on its first line where it listens; with `--stdio` over its standard input and output. Only Python's own
library is needed.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

changes = 0


def whence(params, header):
    """Tells the trace context of this call: in the header, and in _meta."""
    return json.dumps({"header": header, "meta": params.get("_meta", {}).get("traceparent")})


def change(_params, _header):
    """Changes something, and tells how often it did."""
    global changes
    changes += 1
    return f"changed {changes} times"


TOOLS = {"whence": (whence, True), "change": (change, False)}


def answer(request, header):
    reply = {"jsonrpc": "2.0", "id": request["id"]}
    method = request["method"]
    if method == "initialize":
        reply["result"] = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                           "serverInfo": {"name": "trace", "version": "1"}}
    elif method == "tools/list":
        reply["result"] = {"tools": [
            {"name": name, "description": tool.__doc__, "inputSchema": {"type": "object"},
             "annotations": {"readOnlyHint": read_only}} for name, (tool, read_only) in TOOLS.items()]}
    elif method == "tools/call":
        text = TOOLS[request["params"]["name"]][0](request["params"], header)
        reply["result"] = {"content": [{"type": "text", "text": text}]}
    elif method == "ping":
        reply["result"] = {}
    else:
        reply["error"] = {"code": -32601, "message": "method not found"}
    return reply


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        body = json.dumps(answer(request, self.headers.get("traceparent"))).encode() if "id" in request else b""
        self.send_response(200 if body else 202)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.send_error(405)

    def log_message(self, *_):
        pass


if sys.argv[1:] == ["--stdio"]:
    for line in sys.stdin:
        request = json.loads(line)
        if "id" in request:
            print(json.dumps(answer(request, None)), flush=True)
    sys.exit()

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
