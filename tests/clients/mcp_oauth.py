"""Finds the issuer of k8sops as a desktop host does, gets a token there, and lists the tools.

    python mcp_oauth.py URL
"""

import asyncio
import sys
from urllib.parse import parse_qs, urlparse

import httpx
from mcp import ClientSession
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamablehttp_client
from mcp.shared.auth import OAuthClientMetadata
from pydantic import AnyUrl

REDIRECT = "http://localhost:3999/callback"


class Storage:
    """Keeps what the client learned, for one run."""

    def __init__(self):
        self.tokens = self.client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client


async def main(url):
    answers = []

    async def open_browser(address):
        async with httpx.AsyncClient(trust_env=False) as http:
            redirect = (await http.get(address)).headers["location"]
        answers.append({name: values[0] for name, values in parse_qs(urlparse(redirect).query).items()})

    async def wait_for_redirect():
        return answers[-1]["code"], answers[-1]["state"]

    metadata = OAuthClientMetadata(client_name="host", redirect_uris=[AnyUrl(REDIRECT)])
    auth = OAuthClientProvider(f"{url}/mcp", metadata, Storage(), open_browser, wait_for_redirect)
    async with streamablehttp_client(f"{url}/mcp", auth=auth) as (read, write, _):
        async with ClientSession(read, write) as session:
            await session.initialize()
            tools = (await session.list_tools()).tools
    assert len(answers) == 1, answers
    assert [tool.name for tool in tools] == ["ask", "get_session"], tools
    print("done")


asyncio.run(main(sys.argv[1]))
