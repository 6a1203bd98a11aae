"""The official Python client, at the server that the command line names."""

import contextlib
import json
import sys

import httpx2
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client


@contextlib.asynccontextmanager
async def connect(arguments, **options):
    """Arguments: `legacy` or `auto`, then `http URL TOKEN` or `stdio COMMAND ARG...`."""
    mode, transport, *rest = arguments
    async with contextlib.AsyncExitStack() as stack:
        if transport == "http":
            url, token = rest
            headers = {"Authorization": f"Bearer {token}"}
            http = httpx2.AsyncClient(headers=headers, timeout=60)
            http = await stack.enter_async_context(http)
            transport = streamable_http_client(url, http_client=http)
        else:
            command, *args = rest
            transport = stdio_client(StdioServerParameters(command=command, args=args))
        client = Client(transport, mode=mode, cache=None, **options)
        yield await stack.enter_async_context(client)


def plain(result):
    """A result as JSON: whether it is an error, its structured content, and its texts."""
    return {
        "error": bool(result.is_error),
        "structured": result.structured_content,
        "texts": [block.text for block in result.content],
    }


def tell(facts):
    json.dump(facts, sys.stdout)
    print(flush=True)
