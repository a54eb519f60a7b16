"""Asks for push notifications over the official SDK for A2A, in both bindings, and receives them.

    python a2a_push.py URL
"""

import asyncio
import http.server
import json
import queue
import sys
import threading
import uuid

import httpx
from a2a.client import A2ACardResolver, ClientConfig, create_client
from a2a.types import a2a_pb2 as pb
from google.protobuf.json_format import ParseDict

received = queue.Queue()


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert self.headers["content-type"] == "application/a2a+json", self.headers
        assert self.headers["authorization"] == "Bearer secret", self.headers
        # The SDK's own types read it.
        received.put((self.headers["x-a2a-notification-token"], ParseDict(body, pb.StreamResponse())))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def states_of(token):
    """The updates with a token, until the task has ended."""
    kinds = []
    while True:
        got, update = received.get(timeout=120)
        if got != token:
            continue
        kind = update.WhichOneof("payload")
        kinds.append(kind)
        if kind == "status_update" and update.status_update.status.state == pb.TASK_STATE_COMPLETED:
            return kinds


async def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    async with httpx.AsyncClient(timeout=120) as http_client:
        card = await A2ACardResolver(http_client, sys.argv[1]).get_agent_card()
        assert card.capabilities.push_notifications, card
        for binding in ["JSONRPC", "HTTP+JSON"]:
            config = ClientConfig(streaming=False, httpx_client=http_client, supported_protocol_bindings=[binding])
            client = await create_client(card, client_config=config)
            token = str(uuid.uuid4())
            push = pb.TaskPushNotificationConfig(
                id="by-message",
                url=url,
                token=token,
                authentication=pb.AuthenticationInfo(scheme="Bearer", credentials="secret"),
            )
            message = pb.Message(message_id=token, role=pb.ROLE_USER, parts=[pb.Part(text="what is broken?")])
            request = pb.SendMessageRequest(message=message)
            request.configuration.task_push_notification_config.CopyFrom(push)
            async for response in client.send_message(request):
                task = response.task
            assert task.status.state == pb.TASK_STATE_COMPLETED, task
            kinds = await asyncio.to_thread(states_of, token)
            assert "artifact_update" in kinds and kinds[0] == kinds[-1] == "status_update", kinds

            push.task_id, push.id = task.id, "later"
            made = await client.create_task_push_notification_config(push)
            assert (made.id, made.task_id, made.url, made.token) == ("later", task.id, url, token), made
            assert made.authentication.scheme == "Bearer" and not made.authentication.credentials, made
            selector = {"task_id": task.id, "id": "later"}
            found = await client.get_task_push_notification_config(pb.GetTaskPushNotificationConfigRequest(**selector))
            assert found == made, found
            of_task = pb.ListTaskPushNotificationConfigsRequest(task_id=task.id)
            listed = await client.list_task_push_notification_configs(of_task)
            assert [config.id for config in listed.configs] == ["by-message", "later"], listed
            await client.delete_task_push_notification_config(pb.DeleteTaskPushNotificationConfigRequest(**selector))
            listed = await client.list_task_push_notification_configs(of_task)
            assert [config.id for config in listed.configs] == ["by-message"], listed
    server.shutdown()
    print("done")


asyncio.run(main())
