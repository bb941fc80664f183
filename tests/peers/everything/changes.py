"""What has changed, told to those who asked: in the 2026 revision on the streams of `subscriptions/listen`, before it to
the session of the call."""

from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ResourceUpdated,
    ToolsListChanged,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

import sessions

_bus = InMemorySubscriptionBus()
listen = ListenHandler(_bus)


def _modern(context: ServerRequestContext) -> bool:
    return context.protocol_version in MODERN_PROTOCOL_VERSIONS


async def tools(context: ServerRequestContext) -> None:
    if _modern(context):
        await _bus.publish(ToolsListChanged())
    else:
        await context.session.send_tool_list_changed()


async def prompts(context: ServerRequestContext) -> None:
    if _modern(context):
        await _bus.publish(PromptsListChanged())
    else:
        await context.session.send_prompt_list_changed()


async def resource(context: ServerRequestContext, uri: str) -> None:
    if _modern(context):
        await _bus.publish(ResourceUpdated(uri=uri))
    elif uri in sessions.of(context).watched:
        await context.session.send_resource_updated(uri)
