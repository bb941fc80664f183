"""The tools. Each is a function beside its definition; what it raises as `Refused` is a tool's error, not the protocol's."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

import media
import sessions

# Between two notifications, so that they come apart and not in one write.
PAUSE_SECONDS = 0.05


class Refused(Exception):
    """The tool could not do it, and says why in its result."""


@dataclass(frozen=True)
class Call:
    context: ServerRequestContext
    arguments: dict[str, Any]


Content = list[types.ContentBlock]


@dataclass(frozen=True)
class Tool:
    definition: types.Tool
    run: Callable[[Call], Awaitable[Content]]


TOOLS: dict[str, Tool] = {}

NO_ARGUMENTS = {"type": "object", "properties": {}}


def _tool(name: str, description: str, schema: dict[str, Any] = NO_ARGUMENTS) -> Callable:
    def keep(run: Callable[[Call], Awaitable[Content]]) -> Callable[[Call], Awaitable[Content]]:
        TOOLS[name] = Tool(types.Tool(name=name, description=description, input_schema=schema), run)
        return run

    return keep


def _one_string(name: str, description: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": "string", "description": description}},
        "required": [name],
    }


async def list_all(_: ServerRequestContext, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    return types.ListToolsResult(tools=[tool.definition for tool in TOOLS.values()])


async def call(context: ServerRequestContext, params: types.CallToolRequestParams) -> types.CallToolResult:
    tool = TOOLS.get(params.name)
    if tool is None:
        raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}")
    try:
        return types.CallToolResult(content=await tool.run(Call(context, params.arguments or {})))
    except Refused as refused:
        return types.CallToolResult(content=[media.text(str(refused))], is_error=True)


# Content of every kind


@_tool("test_simple_text", "Returns a text")
async def simple_text(_: Call) -> Content:
    return [media.text("This is a simple text response for testing.")]


@_tool("test_image_content", "Returns a picture")
async def image_content(_: Call) -> Content:
    return [media.image()]


@_tool("test_audio_content", "Returns a sound")
async def audio_content(_: Call) -> Content:
    return [media.audio()]


@_tool("test_embedded_resource", "Returns a resource")
async def embedded_resource(_: Call) -> Content:
    return [media.embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")]


@_tool("test_multiple_content_types", "Returns a text, a picture and a resource")
async def multiple_content_types(_: Call) -> Content:
    data = json.dumps({"test": "data", "value": 123})
    resource = media.embedded("test://mixed-content-resource", "application/json", data)
    return [media.text("Multiple content types test:"), media.image(), resource]


@_tool("test_error_handling", "Fails, always")
async def error_handling(_: Call) -> Content:
    raise Refused("This tool intentionally returns an error for testing")


# What comes while a call runs


@_tool("test_tool_with_logging", "Logs three lines at level info")
async def tool_with_logging(given: Call) -> Content:
    lines = ["Tool execution started", "Tool processing data", "Tool execution completed"]
    for number, line in enumerate(lines):
        if number > 0:
            await anyio.sleep(PAUSE_SECONDS)
        if sessions.wants(given.context, "info"):
            await given.context.session.send_log_message(
                level="info", data=line, related_request_id=given.context.request_id
            )
    return [media.text("Tool with logging executed successfully")]


@_tool("test_tool_with_progress", "Reports progress, if asked to: 0, 50 and 100 of 100")
async def tool_with_progress(given: Call) -> Content:
    for done in (0, 50, 100):
        if done > 0:
            await anyio.sleep(PAUSE_SECONDS)
        await given.context.session.report_progress(done, 100)
    return [media.text("Tool with progress executed successfully")]


@_tool("test_reconnection", "Closes the stream of its call before it answers on the stream that is taken up again")
async def reconnection(given: Call) -> Content:
    # Over stdio there is no stream to close; it only takes its time.
    if given.context.close_sse_stream is not None:
        await given.context.close_sse_stream()
    await anyio.sleep(2 * PAUSE_SECONDS)
    return [media.text("Reconnection test completed successfully")]


# Requests to the client


@_tool("test_sampling", "Asks the client's model", _one_string("prompt", "The prompt to send to the model"))
async def sampling(given: Call) -> Content:
    capabilities = given.context.session.client_capabilities
    if capabilities is None or capabilities.sampling is None:
        raise Refused("The client does not support sampling")
    prompt = types.SamplingMessage(role="user", content=media.text(given.arguments["prompt"]))
    answer = await given.context.session.create_message(
        [prompt], max_tokens=100, related_request_id=given.context.request_id
    )
    words = answer.content.text if isinstance(answer.content, types.TextContent) else answer.content.type
    return [media.text(f"LLM response: {words}")]


async def _elicit(given: Call, message: str, properties: dict[str, Any], required: list[str]) -> types.ElicitResult:
    capabilities = given.context.session.client_capabilities
    if capabilities is None or capabilities.elicitation is None:
        raise Refused("The client does not support elicitation")
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    return await given.context.session.elicit_form(message, schema, given.context.request_id)


def _action_and_content(answer: types.ElicitResult) -> str:
    return f"action={answer.action}, content={json.dumps(answer.content)}"


@_tool("test_elicitation", "Asks the user for a name and an address", _one_string("message", "What the user is told"))
async def elicitation(given: Call) -> Content:
    properties = {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    }
    answer = await _elicit(given, given.arguments["message"], properties, ["username", "email"])
    return [media.text(f"User response: {_action_and_content(answer)}")]


@_tool("test_elicitation_sep1034_defaults", "Asks the user, with a default of every primitive type")
async def elicitation_defaults(given: Call) -> Content:
    properties = {
        "name": {"type": "string", "description": "User name", "default": "John Doe"},
        "age": {"type": "integer", "description": "User age", "default": 30},
        "score": {"type": "number", "description": "User score", "default": 95.5},
        "status": {
            "type": "string",
            "description": "User status",
            "enum": ["active", "inactive", "pending"],
            "default": "active",
        },
        "verified": {"type": "boolean", "description": "Verification status", "default": True},
    }
    answer = await _elicit(given, "Please review and update the form fields with defaults", properties, [])
    return [media.text(f"Elicitation completed: {_action_and_content(answer)}")]


def _titled(titles: list[str]) -> list[dict[str, str]]:
    return [{"const": f"value{number}", "title": title} for number, title in enumerate(titles, 1)]


@_tool("test_elicitation_sep1330_enums", "Asks the user to choose, in every way that there is")
async def elicitation_enums(given: Call) -> Content:
    options = ["option1", "option2", "option3"]
    properties = {
        "untitledSingle": {"type": "string", "enum": options},
        "titledSingle": {"type": "string", "oneOf": _titled(["First Option", "Second Option", "Third Option"])},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
        "titledMulti": {
            "type": "array",
            "items": {"anyOf": _titled(["First Choice", "Second Choice", "Third Choice"])},
        },
    }
    answer = await _elicit(given, "Please select options from the enum fields", properties, [])
    return [media.text(f"Elicitation completed: {_action_and_content(answer)}")]


# A schema with all that JSON Schema 2020-12 has and a careless proxy drops


@_tool(
    "json_schema_2020_12_tool",
    "Tool with JSON Schema 2020-12 features",
    {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
            }
        },
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    },
)
async def json_schema(given: Call) -> Content:
    return [media.text(f"Called with {json.dumps(given.arguments)}")]
