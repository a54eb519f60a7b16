"""A whole turn with the client that openapi-python-client makes of openapi.json.

    python turn.py URL          with `k8sops_client` on PYTHONPATH
"""

import json
import sys
import time

from k8sops_client import Client
from k8sops_client.api.approvals import resolve_approval
from k8sops_client.api.events import stream_events
from k8sops_client.api.memories import list_memories
from k8sops_client.api.messages import list_messages, send_message
from k8sops_client.api.sessions import create_session, delete_session, get_session
from k8sops_client.api.usage import get_usage
from k8sops_client.models import (
    ApprovalResolved,
    CreateSession,
    EventApprovalRequested,
    MemoryList,
    MessageAccepted,
    MessageAssistant,
    MessageList,
    MessageTool,
    MessageUser,
    Problem,
    ResolveApproval,
    SendMessage,
    SessionView,
    UsageReport,
    Verdict,
)

client = Client(base_url=sys.argv[1], httpx_args={"trust_env": False})


def poll(look, limit=120.0):
    """What `look` finds, once it finds something."""
    until = time.monotonic() + limit
    while time.monotonic() < until:
        if found := look():
            return found
        time.sleep(0.05)
    raise TimeoutError(look)


created = create_session.sync(client=client, body=CreateSession(title="by a generated client"))
assert isinstance(created, SessionView), created
session_id = created.session_id

accepted = send_message.sync(session_id, client=client, body=SendMessage(content="scale checkout to 3"))
assert isinstance(accepted, MessageAccepted), accepted


def events():
    log = stream_events.sync(session_id, client=client, follow=False)
    assert isinstance(log, str), log
    return [json.loads(line.removeprefix("data: ")) for line in log.splitlines() if line.startswith("data: ")]


(asked,) = poll(lambda: [event for event in events() if event["type"] == "approval_requested"])
asked = EventApprovalRequested.from_dict(asked)
answer = ResolveApproval(decision=Verdict.VERDICT_APPROVE, comment="from Python")
resolved = resolve_approval.sync(session_id, asked.approval_id, client=client, body=answer)
assert isinstance(resolved, ApprovalResolved), resolved

poll(lambda: [event for event in events() if event["type"] == "run_finished"])
page = list_messages.sync(session_id, client=client)
assert isinstance(page, MessageList), page
messages = page.messages
assert isinstance(messages[0], MessageUser) and messages[0].content == "scale checkout to 3", messages[0]
assert any(isinstance(message, MessageTool) for message in messages), messages
assert isinstance(messages[-1], MessageAssistant) and "checkout" in messages[-1].content, messages[-1]

usage = get_usage.sync(client=client)
assert isinstance(usage, UsageReport) and usage.from_ <= usage.to, usage
memories = list_memories.sync(client=client)
assert isinstance(memories, MemoryList), memories

assert delete_session.sync_detailed(session_id, client=client).status_code == 204
gone = get_session.sync(session_id, client=client)
assert isinstance(gone, Problem) and gone.code.value == "session_not_found", gone
print("done")
