"""The tools. Each is a function beside its definition; what it raises as `Refused` is a tool's error, not the protocol's,
and `rounds.Ask` says what the client has to answer before it can go on."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

import changes
import media
import rounds
import sessions

# Between two notifications, so that they come apart and not in one write.
PAUSE_SECONDS = 0.05


class Refused(Exception):
    """The tool could not do it, and says why in its result."""


@dataclass(frozen=True)
class Call:
    context: ServerRequestContext
    arguments: dict[str, Any]
    # What the client has answered so far, and what we gave it to bring with that.
    answers: Mapping[str, types.InputResponse]
    state: str | None


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


def schema_of(name: str) -> dict[str, Any] | None:
    tool = TOOLS.get(name)
    return tool.definition.input_schema if tool else None


async def call(
    context: ServerRequestContext, params: types.CallToolRequestParams
) -> types.CallToolResult | types.InputRequiredResult:
    tool = TOOLS.get(params.name)
    if tool is None:
        raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}")
    state, answers = rounds.opened(params.request_state), params.input_responses or {}
    while True:
        try:
            asked = Call(context, params.arguments or {}, answers, state)
            return types.CallToolResult(content=await tool.run(asked))
        except rounds.Ask as ask:
            if rounds.is_modern(context):
                return ask.result()
            state, answers = ask.state, await rounds.pushed(context, ask)
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


# Several rounds (SEP-2322)


@_tool("test_input_required_result_elicitation", "Asks for a name, and greets")
async def round_elicitation(given: Call) -> Content:
    name = rounds.content(given.answers, "user_name", "name")
    if name is None:
        raise rounds.Ask({"user_name": rounds.elicit("What is your name?", "name")})
    return [media.text(f"Hello, {name}!")]


@_tool("test_input_required_result_sampling", "Asks the client's model, and says what it said")
async def round_sampling(given: Call) -> Content:
    said = rounds.said(given.answers, "capital_question")
    if said is None:
        raise rounds.Ask({"capital_question": rounds.sample("What is the capital of France?", 100)})
    return [media.text(said)]


@_tool("test_input_required_result_list_roots", "Asks for the roots, and names them")
async def round_list_roots(given: Call) -> Content:
    roots = rounds.roots(given.answers, "client_roots")
    if roots is None:
        raise rounds.Ask({"client_roots": rounds.list_roots()})
    return [media.text(f"Roots: {', '.join(roots)}")]


@_tool("test_input_required_result_request_state", "Asks for a yes, and looks at the state that came with it")
async def round_request_state(given: Call) -> Content:
    if given.state != "request-state" or rounds.content(given.answers, "confirm", "ok") is None:
        raise rounds.Ask({"confirm": rounds.elicit("Please confirm", "ok", "boolean")}, "request-state")
    return [media.text("state-ok")]


@_tool("test_input_required_result_multiple_inputs", "Asks for a name, a greeting and the roots at once")
async def round_multiple_inputs(given: Call) -> Content:
    name = rounds.content(given.answers, "user_name", "name")
    greeting = rounds.said(given.answers, "greeting")
    roots = rounds.roots(given.answers, "client_roots")
    if given.state != "multiple-inputs" or name is None or greeting is None or roots is None:
        wanted = {
            "user_name": rounds.elicit("What is your name?", "name"),
            "greeting": rounds.sample("Generate a greeting", 50),
            "client_roots": rounds.list_roots(),
        }
        raise rounds.Ask(wanted, "multiple-inputs")
    return [media.text(f"{greeting} {name}, {len(roots)} roots")]


@_tool("test_input_required_result_multi_round", "Asks for a name, then for a colour")
async def round_multi_round(given: Call) -> Content:
    step, _, name = (given.state or "").partition(":")
    if step == "step2":
        colour = rounds.content(given.answers, "step2", "color")
        if colour is not None:
            return [media.text(f"{name} likes {colour}")]
    elif step == "step1":
        name = rounds.content(given.answers, "step1", "name")
    if not name:
        raise rounds.Ask({"step1": rounds.elicit("Step 1: What is your name?", "name")}, "step1")
    raise rounds.Ask({"step2": rounds.elicit("Step 2: What is your favorite color?", "color")}, f"step2:{name}")


@_tool("test_input_required_result_tampered_state", "Asks for a yes; refuses a state that was changed on its way")
async def round_tampered_state(given: Call) -> Content:
    if given.state != "tampered-state" or rounds.content(given.answers, "confirm", "ok") is None:
        raise rounds.Ask({"confirm": rounds.elicit("Please confirm", "ok", "boolean")}, "tampered-state")
    return [media.text("The state is the one that was given")]


@_tool("test_input_required_result_capabilities", "Asks for whatever the client says that it can answer")
async def round_capabilities(given: Call) -> Content:
    can = given.context.session.client_capabilities or types.ClientCapabilities()
    wanted = {}
    if can.elicitation is not None:
        wanted["user_name"] = rounds.elicit("What is your name?", "name")
    if can.sampling is not None:
        wanted["greeting"] = rounds.sample("Generate a greeting", 50)
    if can.roots is not None:
        wanted["client_roots"] = rounds.list_roots()
    missing = {key: ask for key, ask in wanted.items() if key not in given.answers}
    if missing:
        raise rounds.Ask(missing)
    return [media.text(f"Answered: {', '.join(sorted(wanted)) or 'nothing, for nothing could be asked'}")]


# What the 2026 revision says of capabilities, streams and logs (SEP-2575)


@_tool("test_missing_capability", "Needs a client with a model")
async def missing_capability(given: Call) -> Content:
    capabilities = given.context.session.client_capabilities
    if capabilities is None or capabilities.sampling is None:
        needed = types.MissingRequiredClientCapabilityErrorData(
            required_capabilities=types.ClientCapabilities(sampling=types.SamplingCapability())
        )
        data = needed.model_dump(mode="json", by_alias=True, exclude_none=True)
        raise MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, "This tool needs sampling", data)
    if not rounds.is_modern(given.context):
        # What a session can says little of a client behind a gateway: only the model itself knows.
        await rounds.pushed(given.context, rounds.Ask({"model": rounds.sample("Are you there?", 10)}))
    return [media.text("The client can sample")]


@_tool("test_streaming_elicitation", "Reports progress, then asks for a name in its result")
async def streaming_elicitation(given: Call) -> Content:
    await given.context.session.report_progress(50, 100)
    return await round_elicitation(given)


@_tool("test_logging_tool", "Logs a line at every level")
async def logging_tool(given: Call) -> Content:
    for level in sessions.LEVELS:
        if sessions.wants(given.context, level):
            await given.context.session.send_log_message(
                level=level, data=f"A line at {level}", related_request_id=given.context.request_id
            )
    return [media.text("Logged")]


@_tool("test_trigger_tool_change", "Says that the list of tools has changed")
async def trigger_tool_change(given: Call) -> Content:
    await changes.tools(given.context)
    return [media.text("Said that the tools have changed")]


@_tool("test_trigger_prompt_change", "Says that the list of prompts has changed")
async def trigger_prompt_change(given: Call) -> Content:
    await changes.prompts(given.context)
    return [media.text("Said that the prompts have changed")]


@_tool("test_trigger_resource_update", "Says that the watched resource has changed")
async def trigger_resource_update(given: Call) -> Content:
    await changes.resource(given.context, "test://watched-resource")
    return [media.text("Said that the resource has changed")]


# Arguments that are headers too (SEP-2243)


@_tool(
    "test_header_arguments",
    "Repeats its arguments, which over HTTP come as headers too",
    {
        "type": "object",
        "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "limit": {"type": "integer", "x-mcp-header": "Limit"},
            "exact": {"type": "boolean", "x-mcp-header": "Exact"},
        },
    },
)
async def header_arguments(given: Call) -> Content:
    return [media.text(json.dumps(given.arguments))]


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
