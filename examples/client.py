"""Asks one question: streams the run, resumes after a lost connection, and asks before a change.

    python3 client.py http://127.0.0.1:8080 "is this safe to apply?" checkout.yaml
"""

import json
import os
import sys
import time
import urllib.request
import uuid


class Session:
    def __init__(self, url):
        self.url, self.seq = url.rstrip("/") + "/v1", 0
        self.id = self.call("POST", "/sessions", {})["session_id"]

    def open(self, method, path, body=None, headers=()):
        headers = {"Content-Type": "application/json", **dict(headers)}
        if token := os.environ.get("K8SOPS_TOKEN"):
            headers["Authorization"] = "Bearer " + token
        data = None if body is None else json.dumps(body).encode()
        return urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers, method=method), timeout=60)

    def call(self, method, path, body, headers=()):
        return json.load(self.open(method, path, body, headers))

    def send(self, text, paths):
        """Sends a message and text files that go with it. The key makes it safe to send again."""
        attachments = [{"name": os.path.basename(path), "text": open(path, encoding="utf-8").read()} for path in paths]
        message, key = {"content": text, "attachments": attachments}, {"Idempotency-Key": str(uuid.uuid4())}
        return self.call("POST", f"/sessions/{self.id}/messages", message, key)["run_id"]

    def events(self):
        """Yields events and previews. After a lost connection it continues with the first event that was not seen."""
        while True:
            try:
                with self.open("GET", f"/sessions/{self.id}/events?after={self.seq}") as stream:
                    for line in stream:
                        if line.startswith(b"data: "):
                            event = json.loads(line[6:])
                            self.seq = event.get("seq", self.seq)
                            yield event
            except OSError:
                time.sleep(1)


session = Session(sys.argv[1])
run = session.send(sys.argv[2], sys.argv[3:])
for event in session.events():
    if event["type"] == "approval_requested":
        print(f"{event['name']}: {event.get('summary', '')}\n{event.get('preview', '')}")
        answer = {"decision": "approve" if input("Run it? [y/n] ") == "y" else "deny"}
        session.call("POST", f"/sessions/{session.id}/approvals/{event['approval_id']}", answer)
    elif event["type"] == "assistant_message":
        print(event["content"])
    elif event["type"] in ("run_finished", "run_failed") and event["run_id"] == run:
        sys.exit(event["type"] == "run_failed")
