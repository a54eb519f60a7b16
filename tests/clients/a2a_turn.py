"""Works with an agent over the official A2A SDK, in both bindings: streams, approvals, lists, cancel, errors.

    python a2a_turn.py URL
"""

import asyncio
import re
import sys
import uuid

import httpx
from a2a.client import A2ACardResolver, ClientConfig, create_client
from a2a.types import a2a_pb2 as types
from a2a.utils.errors import TaskNotCancelableError, TaskNotFoundError


def message(text, **fields):
    parts = [types.Part(text=text)]
    return types.Message(message_id=str(uuid.uuid4()), role=types.ROLE_USER, parts=parts, **fields)


async def send(client, text, **fields):
    """Sends a message. Returns the kinds of items, and the last status and the id of the task."""
    kinds, status, task_id = set(), None, None
    async for item in client.send_message(types.SendMessageRequest(message=message(text, **fields))):
        kind = item.WhichOneof("payload")
        kinds.add(kind)
        if kind == "task":
            status, task_id = item.task.status, item.task.id
        if kind == "status_update":
            status = item.status_update.status
    return kinds, status, task_id


async def work(card, http, binding):
    config = ClientConfig(streaming=True, httpx_client=http, supported_protocol_bindings=[binding])
    client = await create_client(card, client_config=config)
    context = f"incident {uuid.uuid4()}"

    kinds, status, task_id = await send(client, "what is broken?", context_id=context)
    assert kinds == {"task", "status_update", "artifact_update"}, kinds
    assert status.state == types.TASK_STATE_COMPLETED, status
    task = await client.get_task(types.GetTaskRequest(id=task_id))
    answer = "".join(part.text for artifact in task.artifacts for part in artifact.parts)
    assert "CrashLoopBackOff" in answer and task.history[0].role == types.ROLE_USER, task

    _, status, waiting = await send(client, "scale checkout to 3", context_id=context)
    assert status.state == types.TASK_STATE_INPUT_REQUIRED, status
    words = re.search(r"approve [0-9a-f]{6}", status.message.parts[0].text).group(0)
    _, status, answered = await send(client, words, context_id=context, task_id=waiting)
    assert (status.state, answered) == (types.TASK_STATE_COMPLETED, waiting), status

    _, status, waiting = await send(client, "scale checkout to 5", context_id=context)
    async for item in client.subscribe(types.SubscribeToTaskRequest(id=waiting)):
        assert item.task.status.state == types.TASK_STATE_INPUT_REQUIRED, item
    canceled = await client.cancel_task(types.CancelTaskRequest(id=waiting))
    assert canceled.status.state == types.TASK_STATE_CANCELED, canceled

    listed = await client.list_tasks(types.ListTasksRequest(context_id=context, page_size=2))
    assert (listed.total_size, len(listed.tasks), listed.tasks[0].id) == (3, 2, waiting), listed
    rest = types.ListTasksRequest(context_id=context, page_size=2, page_token=listed.next_page_token)
    assert [task.id for task in (await client.list_tasks(rest)).tasks] == [task_id]

    for error, call in [
        (TaskNotFoundError, client.get_task(types.GetTaskRequest(id="unknown"))),
        (TaskNotCancelableError, client.cancel_task(types.CancelTaskRequest(id=task_id))),
    ]:
        try:
            await call
        except error:
            continue
        raise AssertionError(f"no {error.__name__}")


async def main(url):
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        card = await A2ACardResolver(http, url).get_agent_card()
        for binding in ("JSONRPC", "HTTP+JSON"):
            await work(card, http, binding)
    print("done")


asyncio.run(main(sys.argv[1]))
