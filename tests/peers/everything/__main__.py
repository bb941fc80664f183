"""The everything-server: all that a server of the 2025 and 2026 protocols can do, under the fixture names that the
conformance suite (`@modelcontextprotocol/conformance`) asks for. It stands behind mcpvisor in tests/it/conformance.rs,
and alone under tests/conformance/run. Both eras are served at once: over HTTP per request, over stdio as the client opens.

    python tests/peers/everything --stdio
    python tests/peers/everything --port 8000      # 0: any; prints "listening on http://127.0.0.1:8000/mcp"

What the fixtures hold is in tools.py, resources.py and prompts.py; this file puts them behind the SDK's methods.
Written against the specification and the suite's descriptions of its scenarios, on PyPI `mcp` 2.x.
"""

import argparse
import socket
import warnings

import anyio
import changes
import prompts
import resources
import sessions
import tools
import uvicorn
from mcp.server.caching import CacheHint
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPDeprecationWarning
from streams import Streams

# Logging and sampling are deprecated by the 2026 revision; this server shows the 2025 ones too.
warnings.simplefilter("ignore", MCPDeprecationWarning)

# Told to clients with the priming event of a stream: how long to wait before they take up a closed one.
RETRY_MS = 50


def everything() -> Server:
    return Server(
        "everything",
        version="1.0.0",
        title="Everything",
        instructions="Fixtures for the conformance suite; every tool says what it returns.",
        # Not the defaults: what is passed on can be told from what is made up.
        cache_hints={"tools/list": CacheHint(ttl_ms=1500, scope="public")},
        get_tool_input_schema=tools.schema_of,
        on_list_tools=tools.list_all,
        on_call_tool=tools.call,
        on_list_resources=resources.list_all,
        on_list_resource_templates=resources.list_templates,
        on_read_resource=resources.read,
        on_subscribe_resource=sessions.subscribe,
        on_unsubscribe_resource=sessions.unsubscribe,
        on_list_prompts=prompts.list_all,
        on_get_prompt=prompts.get,
        on_completion=prompts.complete,
        on_set_logging_level=sessions.set_log_level,
        on_subscriptions_listen=changes.listen,
    )


async def serve_stdio() -> None:
    server = everything()
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


async def serve_http(port: int) -> None:
    app = everything().streamable_http_app(event_store=Streams(), retry_interval=RETRY_MS)
    # Bound here, so that the port is known and open before it is announced.
    listener = socket.create_server(("127.0.0.1", port))
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    await uvicorn.Server(config).serve(sockets=[listener])


def main() -> None:
    arguments = argparse.ArgumentParser(prog="everything")
    way = arguments.add_mutually_exclusive_group(required=True)
    way.add_argument("--stdio", action="store_true")
    way.add_argument("--port", type=int)
    chosen = arguments.parse_args()
    if chosen.stdio:
        anyio.run(serve_stdio)
    else:
        anyio.run(serve_http, chosen.port)


if __name__ == "__main__":
    main()
