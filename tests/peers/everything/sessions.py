"""What a client has asked for that lasts longer than a request: a log level, subscriptions. One entry per session."""

from collections import OrderedDict
from dataclasses import dataclass, field

import mcp_types as types
from mcp.server.context import ServerRequestContext

LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")

# A client that goes without a DELETE leaves its entry behind; the oldest goes first.
SESSIONS_MAX = 1000


@dataclass
class Session:
    log_level: str = "info"
    watched: set[str] = field(default_factory=set)


_known: OrderedDict[str, Session] = OrderedDict()


def of(context: ServerRequestContext) -> Session:
    """The session that a request belongs to; over stdio there is only one."""
    headers = getattr(context.request, "headers", None) or {}
    name = headers.get("mcp-session-id", "")
    session = _known.setdefault(name, Session())
    _known.move_to_end(name)
    while len(_known) > SESSIONS_MAX:
        _known.popitem(last=False)
    return session


def wants(context: ServerRequestContext, level: str) -> bool:
    return LEVELS.index(level) >= LEVELS.index(of(context).log_level)


async def set_log_level(context: ServerRequestContext, params: types.SetLevelRequestParams) -> types.EmptyResult:
    of(context).log_level = params.level
    return types.EmptyResult()


async def subscribe(context: ServerRequestContext, params: types.SubscribeRequestParams) -> types.EmptyResult:
    of(context).watched.add(str(params.uri))
    return types.EmptyResult()


async def unsubscribe(context: ServerRequestContext, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
    of(context).watched.discard(str(params.uri))
    return types.EmptyResult()
