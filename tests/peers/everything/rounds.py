"""What takes several rounds (SEP-2322): tools and a prompt that answer `input_required`, and go on when the client comes
again with what they asked it for. Each is a function of what the client has answered so far; it raises `Ask` for more.

There is no such thing in the 2025 revisions: there the same is asked by requests of the server's own, while the call
runs, which this SDK leaves to its servers (`pushed`)."""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata

# Known to everybody, so that the same state looks the same in every run: it shows that a state that was changed on its
# way is refused, and protects nothing.
KEY = b"fixture"


class Ask(Exception):
    """The client has to answer these first. `state` comes back with what it answers."""

    def __init__(self, requests: Mapping[str, dict[str, Any]], state: str | None = None) -> None:
        self.requests = requests
        self.state = state

    def result(self) -> types.InputRequiredResult:
        state = None if self.state is None else seal(self.state)
        return types.InputRequiredResult(input_requests=dict(self.requests), request_state=state)


KINDS: dict[str, tuple[Any, Any]] = {
    "elicitation/create": (types.ElicitRequest, types.ElicitResult),
    "sampling/createMessage": (types.CreateMessageRequest, types.CreateMessageResult),
    "roots/list": (types.ListRootsRequest, types.ListRootsResult),
}


def is_modern(context: ServerRequestContext) -> bool:
    return context.protocol_version >= "2026-07-28"


async def pushed(context: ServerRequestContext, ask: Ask) -> dict[str, types.InputResponse]:
    """What the client answers to all of it, asked at once."""
    answers: dict[str, types.InputResponse] = {}
    refusals: list[MCPError] = []

    async def one(key: str, request: dict[str, Any]) -> None:
        kind, result = KINDS[request["method"]]
        metadata = ServerMessageMetadata(related_request_id=context.request_id)
        try:
            answers[key] = await context.session.send_request(kind.model_validate(request), result, metadata=metadata)
        except MCPError as refusal:
            refusals.append(refusal)

    async with anyio.create_task_group() as group:
        for key, request in ask.requests.items():
            group.start_soon(one, key, request)
    if refusals:
        raise refusals[0]
    return answers


def seal(state: str) -> str:
    return f"{state}.{hmac.new(KEY, state.encode(), hashlib.sha256).hexdigest()}"


def opened(sealed: str | None) -> str | None:
    """The state that we gave, if the client brings one."""
    if sealed is None:
        return None
    state = sealed.rpartition(".")[0]
    if not hmac.compare_digest(seal(state), sealed):
        raise MCPError(types.INVALID_PARAMS, "This is not the requestState that was given")
    return state


def elicit(message: str, field: str, kind: str = "string") -> dict[str, Any]:
    schema = {"type": "object", "properties": {field: {"type": kind}}, "required": [field]}
    return {"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}}


def sample(words: str, tokens_max: int) -> dict[str, Any]:
    message = {"role": "user", "content": {"type": "text", "text": words}}
    return {"method": "sampling/createMessage", "params": {"messages": [message], "maxTokens": tokens_max}}


def list_roots() -> dict[str, Any]:
    return {"method": "roots/list", "params": {}}


def content(answers: Mapping[str, types.InputResponse], key: str, field: str) -> Any | None:
    """What the user filled in, or nothing."""
    answer = answers.get(key)
    if not isinstance(answer, types.ElicitResult) or answer.action != "accept":
        return None
    return (answer.content or {}).get(field)


def said(answers: Mapping[str, types.InputResponse], key: str) -> str | None:
    """What the model said, or nothing."""
    answer = answers.get(key)
    spoken = getattr(answer, "content", None)
    return spoken.text if isinstance(spoken, types.TextContent) else None


def roots(answers: Mapping[str, types.InputResponse], key: str) -> list[str] | None:
    answer = answers.get(key)
    return [str(root.uri) for root in answer.roots] if isinstance(answer, types.ListRootsResult) else None
