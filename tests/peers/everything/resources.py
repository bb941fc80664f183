"""The resources: a text, a picture, one to watch, and a template."""

import json
import re

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

import media

RESOURCES = [
    types.Resource(
        uri="test://static-text",
        name="static-text",
        title="A text",
        description="A text that never changes",
        mime_type="text/plain",
    ),
    types.Resource(
        uri="test://static-binary",
        name="static-binary",
        title="A picture",
        description="A picture that never changes: one red pixel",
        mime_type="image/png",
    ),
    types.Resource(
        uri="test://watched-resource",
        name="watched-resource",
        title="Something to watch",
        description="A text to subscribe to",
        mime_type="text/plain",
    ),
]

TEMPLATES = [
    types.ResourceTemplate(
        uri_template="test://template/{id}/data",
        name="template",
        title="Data by id",
        description="What is known about an id",
        mime_type="application/json",
    )
]

TEMPLATE = re.compile(r"test://template/([^/]+)/data")


async def list_all(_: ServerRequestContext, __: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
    return types.ListResourcesResult(resources=RESOURCES)


async def list_templates(
    _: ServerRequestContext, __: types.PaginatedRequestParams | None
) -> types.ListResourceTemplatesResult:
    return types.ListResourceTemplatesResult(resource_templates=TEMPLATES)


async def read(_: ServerRequestContext, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    contents = _contents(str(params.uri))
    if contents is None:
        raise MCPError(types.INVALID_PARAMS, "Resource not found", {"uri": str(params.uri)})
    return types.ReadResourceResult(contents=[contents])


def _contents(uri: str) -> types.TextResourceContents | types.BlobResourceContents | None:
    match uri:
        case "test://static-text":
            return _text(uri, "text/plain", "This is the content of the static text resource.")
        case "test://static-binary":
            return types.BlobResourceContents(uri=uri, mime_type="image/png", blob=media.PNG)
        case "test://watched-resource":
            return _text(uri, "text/plain", "This is the content of the watched resource.")
    found = TEMPLATE.fullmatch(uri)
    if found is None:
        return None
    data = {"id": found[1], "templateTest": True, "data": f"Data for ID: {found[1]}"}
    return _text(uri, "application/json", json.dumps(data))


def _text(uri: str, mime_type: str, words: str) -> types.TextResourceContents:
    return types.TextResourceContents(uri=uri, mime_type=mime_type, text=words)
