"""The Python SDK as a client: connects to URL by Streamable HTTP, or starts the command '["program", "arg"]' and
speaks over its stdin and stdout; lists all tools, makes the calls.

    python client.py URL|COMMAND '[{"name": "echo", "arguments": {"text": "hi"}}]'

Prints one JSON object: {"server": {…}, "tools": ["…"], "results": [{…} | {"error": {"code", "message"}}]}.
"""

import asyncio
import json
import os
import sys

from mcp import ClientSession, McpError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamablehttp_client


def transport(where: str):
    if where.startswith("http"):
        return streamablehttp_client(where)
    command, *args = json.loads(where)
    return stdio_client(StdioServerParameters(command=command, args=args, env=dict(os.environ)))


async def main(where: str, calls: str = "[]") -> None:
    async with transport(where) as (read, write, *_), ClientSession(read, write) as session:
        server = (await session.initialize()).serverInfo
        tools, cursor = [], None
        while True:
            page = await session.list_tools(cursor)
            tools += [tool.name for tool in page.tools]
            cursor = page.nextCursor
            if cursor is None:
                break
        results = []
        for call in json.loads(calls):
            try:
                result = await session.call_tool(call["name"], call["arguments"])
                results.append(result.model_dump(mode="json", by_alias=True, exclude_none=True))
            except McpError as error:
                results.append({"error": {"code": error.error.code, "message": error.error.message}})
        server = server.model_dump(mode="json", by_alias=True, exclude_none=True)
        print(json.dumps({"server": server, "tools": tools, "results": results}))


asyncio.run(main(*sys.argv[1:]))
