"""Runs turns over the official MCP SDK for Python: a question, and a change that its user approves in a form.

    python mcp_turn.py http URL
    python mcp_turn.py stdio PROGRAM ARGUMENT...
"""

import asyncio
import sys

from mcp import ClientSession, StdioServerParameters, stdio_client, types
from mcp.client.streamable_http import streamablehttp_client

asked = []
progress = []


async def approve(_context, params):
    asked.append(params)
    assert "decision" in params.requestedSchema["properties"], params
    return types.ElicitResult(action="accept", content={"decision": "approve", "comment": "from the client"})


async def report(value, _total, message):
    progress.append((value, message))


async def run(read, write):
    async with ClientSession(read, write, elicitation_callback=approve) as session:
        started = await session.initialize()
        assert started.serverInfo.name == "k8sops", started
        tools = [tool.name for tool in (await session.list_tools()).tools]
        assert tools == ["ask", "get_session"], tools
        answer = await session.call_tool("ask", {"question": "what is broken?"}, progress_callback=report)
        assert not answer.isError and "CrashLoopBackOff" in answer.structuredContent["text"], answer
        assert progress == sorted(progress, key=lambda step: step[0]) and len(progress) > 2, progress
        done = await session.call_tool("ask", {"question": "scale checkout to 3"})
        assert len(asked) == 1 and "deployment_scale" in asked[0].message, asked
        assert done.structuredContent["outcome"] == "completed", done
        shown = await session.call_tool("get_session", {"session_id": done.structuredContent["session_id"]})
        assert shown.structuredContent["status"] == "idle", shown
        assert "deployment_scale: ok" in shown.structuredContent["steps"], shown
    print("done")


async def main():
    if sys.argv[1] == "stdio":
        server = StdioServerParameters(command=sys.argv[2], args=sys.argv[3:])
        async with stdio_client(server) as (read, write):
            await run(read, write)
    else:
        async with streamablehttp_client(f"{sys.argv[2]}/mcp") as (read, write, _):
            await run(read, write)


asyncio.run(main())
