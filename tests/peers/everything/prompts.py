"""The prompts, and the completion of their arguments."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

import media
import rounds


@dataclass(frozen=True)
class Prompt:
    definition: types.Prompt
    # The contents of the user's messages, in order; given the arguments.
    say: Callable[[dict[str, str]], list[types.ContentBlock]]
    # What the user is asked before, by key and field: what is answered is an argument too.
    ask: tuple[str, str, str] | None = None


def _prompt(name: str, description: str, arguments: dict[str, str], say: Callable, ask: Any = None) -> Prompt:
    """`arguments`: name to description; each is required."""
    wanted = [types.PromptArgument(name=n, description=d, required=True) for n, d in arguments.items()]
    return Prompt(types.Prompt(name=name, description=description, arguments=wanted), say, ask)


PROMPTS = [
    _prompt(
        "test_simple_prompt",
        "One message, without arguments",
        {},
        lambda _: [media.text("This is a simple prompt for testing.")],
    ),
    _prompt(
        "test_prompt_with_arguments",
        "One message that repeats its arguments",
        {"arg1": "First test argument", "arg2": "Second test argument"},
        lambda given: [media.text(f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'")],
    ),
    _prompt(
        "test_prompt_with_embedded_resource",
        "A resource, and what to do with it",
        {"resourceUri": "URI of the resource to embed"},
        lambda given: [
            media.embedded(given["resourceUri"], "text/plain", "Embedded resource content for testing."),
            media.text("Please process the embedded resource above."),
        ],
    ),
    _prompt(
        "test_prompt_with_image",
        "A picture, and what to do with it",
        {},
        lambda _: [media.image(), media.text("Please analyze the image above.")],
    ),
    _prompt(
        "test_input_required_result_prompt",
        "One message, with what the user says first",
        {},
        lambda given: [media.text(f"Use this context: {given['context']}")],
        ("user_context", "What context should the prompt use?", "context"),
    ),
]

# What the arguments of test_prompt_with_arguments are completed to.
WORDS = ["park", "party", "paris", "test", "testing"]


async def list_all(_: ServerRequestContext, __: types.PaginatedRequestParams | None) -> types.ListPromptsResult:
    return types.ListPromptsResult(prompts=[prompt.definition for prompt in PROMPTS])


async def get(
    context: ServerRequestContext, params: types.GetPromptRequestParams
) -> types.GetPromptResult | types.InputRequiredResult:
    prompt = next((prompt for prompt in PROMPTS if prompt.definition.name == params.name), None)
    if prompt is None:
        raise MCPError(types.INVALID_PARAMS, f"Unknown prompt: {params.name}")
    given = dict(params.arguments or {})
    missing = [wanted.name for wanted in prompt.definition.arguments or [] if wanted.name not in given]
    if missing:
        raise MCPError(types.INVALID_PARAMS, f"Missing arguments: {', '.join(missing)}")
    if prompt.ask is not None:
        key, message, field = prompt.ask
        answer = rounds.content(params.input_responses or {}, key, field)
        if answer is None:
            ask = rounds.Ask({key: rounds.elicit(message, field)})
            if rounds.is_modern(context):
                return ask.result()
            answer = rounds.content(await rounds.pushed(context, ask), key, field) or ""
        given[field] = answer
    messages = [types.PromptMessage(role="user", content=content) for content in prompt.say(given)]
    return types.GetPromptResult(description=prompt.definition.description, messages=messages)


async def complete(_: ServerRequestContext, params: types.CompleteRequestParams) -> types.CompleteResult:
    values = [word for word in WORDS if word.startswith(params.argument.value)]
    return types.CompleteResult(completion=types.Completion(values=values, total=len(values), has_more=False))
