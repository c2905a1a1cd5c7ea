"""The API's document as a page: its operations by subject, their fields, and a curl for each.

Everything is read from the same document that /openapi.json answers, so that the two can't differ.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from flask import Response, current_app, render_template

from web.pages.base import Pages, public
from web.request import compressed, public_base

blueprint = Pages("docs_page", __name__)

METHODS = ("get", "post", "put", "delete")
# What reads a pixel's statistics answers under this prefix too; said once instead of listed.
FOR_UMAMI = "/api/websites/{pixel_id}/"
# Parameters that so many operations share are described once, as filters.
SHARED_BY_MIN = 6


class Field(NamedTuple):
    """A parameter, or a property of a body or of an answer."""

    name: str
    kind: str
    shape: str
    is_required: bool
    note: str


class Operation(NamedTuple):
    """One method of one path."""

    id: str
    method: str
    path: str
    summary: str
    description: str
    parameters: list[Field]
    has_filters: bool
    body: list[Field]
    answer: str
    curl: str


class Group(NamedTuple):
    """The operations of one subject."""

    id: str
    name: str
    operations: list[Operation]


@blueprint.get("/docs")
@public
def show_docs() -> Response:
    """GET: the API's document as a page. No authentication. 200."""
    document = current_app.extensions["api_document"].to_dict()
    shared = _shared_parameters(document)
    page = render_template(
        "docs.html",
        version=document["info"]["version"],
        groups=_groups(document, set(shared), public_base()),
        filters=list(shared.values()),
        shapes={
            name: [*_fields(schema)] for name, schema in document["components"]["schemas"].items()
        },
    )
    return compressed(Response(page))


def _groups(document: dict[str, Any], shared: set[str], base: str) -> list[Group]:
    found = {tag["name"]: Group(tag["name"], tag["description"], []) for tag in document["tags"]}
    for path, method, operation in _operations(document):
        for tag in operation.get("tags", [])[:1]:
            found[tag].operations.append(
                _operation(document, path, method, operation, shared, base)
            )
    return [group for group in found.values() if group.operations]


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        if path.startswith(FOR_UMAMI):
            continue
        for method in METHODS:
            if method in item:
                own = item[method]
                parameters = [*item.get("parameters", []), *own.get("parameters", [])]
                yield path, method, {**own, "parameters": parameters}


def _shared_parameters(document: dict[str, Any]) -> dict[str, Field]:
    """Return the parameters of a query that many operations share: the filters."""
    counts: dict[str, int] = {}
    fields: dict[str, Field] = {}
    for _, _, operation in _operations(document):
        for parameter in operation["parameters"]:
            if parameter.get("in") == "query":
                counts[parameter["name"]] = counts.get(parameter["name"], 0) + 1
                fields[parameter["name"]] = _field(parameter["name"], parameter, required=False)
    paging = {"page", "pageSize", "search", "orderBy", "sortDescending"}
    return {
        name: fields[name]
        for name, count in counts.items()
        if count >= SHARED_BY_MIN and name not in paging
    }


def _operation(
    document: dict[str, Any],
    path: str,
    method: str,
    operation: dict[str, Any],
    shared: set[str],
    base: str,
) -> Operation:
    schema = _content(operation.get("requestBody", {}))
    body = _resolved(document, schema)
    own = [parameter for parameter in operation["parameters"] if "name" in parameter]
    summary = re.sub(r"^[A-Z]+: ", "", operation.get("summary", ""))
    return Operation(
        id=f"{method}-{re.sub(r'[^a-z]+', '-', path.lower()).strip('-')}",
        method=method,
        path=path,
        summary=summary[:1].upper() + summary[1:],
        description=operation.get("description", "").removeprefix(operation.get("summary", "")),
        parameters=[
            _field(parameter["name"], parameter, required=parameter.get("required", False))
            for parameter in own
            if parameter["name"] not in shared
        ],
        has_filters=any(parameter["name"] in shared for parameter in own),
        body=[*_fields(body)],
        answer=_shape_of(_content(operation["responses"].get("200", {}))),
        curl=_curl(base, path, method, operation, body),
    )


def _content(holder: dict[str, Any]) -> dict[str, Any]:
    for content in holder.get("content", {}).values():
        return dict(content.get("schema", {}))
    return {}


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = _shape_of(schema)
    return document["components"]["schemas"].get(name, {}) if name else schema


def _fields(schema: dict[str, Any]) -> Iterator[Field]:
    required = schema.get("required", [])
    for name, property_schema in schema.get("properties", {}).items():
        yield _field(
            name, {"schema": property_schema, **property_schema}, required=name in required
        )


def _field(name: str, holder: dict[str, Any], *, required: bool) -> Field:
    schema = holder.get("schema", {})
    items = schema.get("items", {}) if schema.get("type") == "array" else schema
    notes = [holder.get("description") or schema.get("description") or ""]
    choices = [str(choice) for choice in schema.get("enum", []) if choice is not None]
    if choices:
        notes.append(f"One of {', '.join(choices)}.")
    if schema.get("default") not in (None, ""):
        notes.append(f"Default {json.dumps(schema['default'])}.")
    return Field(
        name, _kind(schema), _shape_of(items), required, " ".join(note for note in notes if note)
    )


def _kind(schema: dict[str, Any]) -> str:
    kinds = schema.get("type", "")
    words = [kinds] if isinstance(kinds, str) else list(kinds)
    if words == ["array"]:
        items = schema.get("items", {})
        return f"list of {_kind(items) or 'objects'}"
    if schema.get("format") in ("uuid", "date-time"):
        kind = {"uuid": "UUID", "date-time": "instant"}[schema["format"]]
        words = [kind if word == "string" else word for word in words]
    return " or ".join(word for word in words if word)


def _shape_of(schema: dict[str, Any]) -> str:
    """Return the name of the shape that a schema is of, or a list of, or the first it may be of."""
    several = (schema.get(name, []) for name in ("allOf", "oneOf", "anyOf"))
    inner = [schema.get("items", {}), *itertools.chain.from_iterable(several)]
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    return name or next(
        (found for inner_schema in inner if inner_schema and (found := _shape_of(inner_schema))), ""
    )


def _curl(
    base: str, path: str, method: str, operation: dict[str, Any], body: dict[str, Any]
) -> str:
    """Return a command to copy; what has to be filled in stands in capitals."""
    filled = re.sub(r"\{(\w+?)(_id)?\}", lambda found: found[0][1:-1].upper(), path)
    needed = [
        f"{parameter['name']}={_in_query(parameter.get('example', ''))}"
        for parameter in operation["parameters"]
        if parameter.get("in") == "query" and parameter.get("required")
    ]
    lines = ["curl"]
    if operation.get("security"):
        lines.append('-H "Authorization: Bearer $PIXELKEEP_KEY"')
    if method != "get" and not body:
        lines.append(f"-X {method.upper()}")
    if body:
        sent = next(iter(operation["requestBody"]["content"].values())).get("example", {})
        if isinstance(sent, dict) and body.get("required"):
            sent = {name: sent[name] for name in sent if name in body["required"]}
        lines.append("-H 'Content-Type: application/json'")
        lines.append(f"-d '{json.dumps(sent, ensure_ascii=False)}'")
    url = f"{base}{filled}" + (f"?{'&'.join(needed)}" if needed else "")
    return " \\\n  ".join([*lines, f"'{url}'"])


def _in_query(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else str(value)
