"""The Python SDK 2.x as a client: connects to URL by Streamable HTTP, or starts the command '["program", "arg"]' and
speaks over its stdin and stdout; lists all tools, makes the calls.

    python client2.py URL|COMMAND '[{"name": "echo", "arguments": {"text": "hi"}}]' [auto|legacy|2026-07-28]

The last is how the version is agreed upon; a version is taken for granted. Whatever a server asks of its client is
answered. Prints one JSON object:
{"version": "…", "server": {…}, "tools": ["…"], "results": [{…} | {"error": {"code", "message"}}]}.
"""

import asyncio
import json
import os
import sys
import warnings

import mcp_types as types
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError

warnings.simplefilter("ignore", MCPDeprecationWarning)

SAID = {"string": "said", "integer": 7, "number": 0.5, "boolean": True}


async def elicited(_, params):
    properties = params.requested_schema["properties"]
    filled = {name: SAID[wanted["type"]] for name, wanted in properties.items() if wanted.get("type") in SAID}
    return types.ElicitResult(action="accept", content=filled)


async def sampled(*_):
    return types.CreateMessageResult(role="assistant", model="it", content=types.TextContent(text="sampled"))


async def roots(*_):
    return types.ListRootsResult(roots=[types.Root(uri="file:///it")])


def plain(model):
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


async def main(where: str, calls: str = "[]", how: str = "auto") -> None:
    if not where.startswith("http"):
        command, *args = json.loads(where)
        where = StdioServerParameters(command=command, args=args, env=dict(os.environ))
    answering = {"elicitation_callback": elicited, "sampling_callback": sampled, "list_roots_callback": roots}
    async with Client(where, mode=how, **answering) as client:
        tools, cursor = [], None
        while True:
            page = await client.list_tools(cursor=cursor)
            tools += [tool.name for tool in page.tools]
            cursor = page.next_cursor
            if cursor is None:
                break
        results = []
        for call in json.loads(calls):
            try:
                results.append(plain(await client.call_tool(call["name"], call["arguments"])))
            except MCPError as error:
                results.append({"error": {"code": error.error.code, "message": error.error.message}})
        server = plain(client.server_info) if client.server_info else None
        version = client.protocol_version
        print(json.dumps({"version": version, "server": server, "tools": tools, "results": results}))


asyncio.run(main(*sys.argv[1:]))
