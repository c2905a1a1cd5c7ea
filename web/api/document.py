"""The API's document as clients are made from it: what the routes declare, set right in places.

Generators of types take a property with a default for one that is always there; so requests name
no defaults, and what leaving a property out means is said in words. What a field or a parameter
means is in `document_words`, from which the examples are made too.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from marshmallow import class_registry
from marshmallow.exceptions import RegistryError

from schemas import PIXEL_NAMES
from web.api.document_words import ID, NOT_SHOWN, PARAMETERS, PROPERTIES, Word

JSON = "application/json"
REFERENCE = "#/components/schemas/"
ALIASED = "/api/pixels/{pixel_id}/"
LICENSE = {"name": "MIT", "identifier": "MIT"}
GIF_CONTENT = {"image/gif": {"schema": {"type": "string", "contentMediaType": "image/gif"}}}
IMAGE = {
    "200": "The image, always the same 43 bytes: the hit is committed.",
    "404": "The image all the same: no pixel has the slug.",
    "503": "The image all the same: the hit could not be stored.",
}

# What the server's reader of requests answers, before any route.
TOO_LONG = {
    "description": "`uri-too-long`: The first line is over 8190 bytes.",
    "content": {JSON: {"schema": {"$ref": f"{REFERENCE}ErrorOut"}}},
}
# Parameters that are known only to be refused, as they would be ignored otherwise.
REFUSED = ("segment", "cohort")

Json = dict[str, Any]


def finished(spec: Json) -> Json:
    """Return the document of all routes, the image's included."""
    document = copy.deepcopy(spec)
    document["info"]["license"] = LICENSE
    document["servers"] = [{"url": "/", "description": "This server."}]
    document["paths"] |= {
        "/p/{slug}": _image("getImage", "path"),
        "/api/send": {**_image("getImageBySlug", "query"), **document["paths"]["/api/send"]},
    }
    schemas = document["components"]["schemas"]
    # flask-smorest's own, which no answer of ours has.
    schemas.pop("PaginationMetadata", None)
    _name_pixels_once(schemas)
    # A pixel moves to a user or to a team; null is nobody.
    owners = {name: {"type": "string"} for name in ("userId", "teamId")}
    schemas["PixelChange"]["not"] = {"required": [*owners], "properties": owners}
    for name in _in_requests(document):
        for shape in schemas[name].get("properties", {}).values():
            _say_default(shape)
    for name, shape in schemas.items():
        _describe(name, shape)
    for path, item in document["paths"].items():
        for parameter in item.get("parameters", []):
            _describe_parameter(parameter)
        for operation in _operations(item):
            _finish(path, operation)
            _show(operation, schemas)
    return document


def _operations(item: Json) -> Iterator[Json]:
    return (operation for operation in item.values() if isinstance(operation, dict))


def _name_pixels_once(schemas: Json) -> None:
    """Have a payload be of a pixel or of a website: of the two names exactly one is there."""
    payload = schemas.pop("SendPayload")
    references = []
    for name in PIXEL_NAMES:
        others = [other for other in PIXEL_NAMES if other != name]
        shape = copy.deepcopy(payload)
        shape["properties"] = {
            key: value for key, value in shape["properties"].items() if key not in others
        }
        shape |= {"required": [name], "not": {"anyOf": [{"required": [other]} for other in others]}}
        schemas[f"{name.capitalize()}Payload"] = shape
        references.append({"$ref": f"{REFERENCE}{name.capitalize()}Payload"})
    schemas["Send"]["properties"]["payload"] = {"oneOf": references}


def _describe(name: str, shape: Json) -> None:
    shape.setdefault("description", _words_of(name))
    for key, value in shape.get("properties", {}).items():
        word = _word(name, key)
        if word and "$ref" not in value:
            value.setdefault("description", word.meaning)
        elif word:
            # What stands beside a reference is read from OpenAPI 3.1 on, and not by all.
            shape["properties"][key] = {"allOf": [value], "description": word.meaning}


def _words_of(name: str) -> str:
    try:
        found: Any = class_registry.get_class(name)
    except RegistryError:
        return _words_of("SendPayload") if name.endswith("Payload") else "A page of a list."
    return " ".join((found.__doc__ or "").split()) if "__doc__" in vars(found) else ""


def _word(shape_name: str, key: str) -> Word | None:
    return PROPERTIES.get(_full_name(shape_name, key), PROPERTIES.get(key))


def _full_name(shape_name: str, key: str) -> str:
    return f"{'SendPayload' if shape_name.endswith('Payload') else shape_name}.{key}"


def _finish(path: str, operation: Json) -> None:
    if "parameters" in operation:
        operation["parameters"] = [
            declared for declared in operation["parameters"] if declared.get("name") not in REFUSED
        ]
    for parameter in operation.get("parameters", []):
        _describe_parameter(parameter)
        if parameter.get("schema", {}).get("type") == "array":
            operation["responses"]["414"] = TOO_LONG
    notes = [operation.get("description") or f"{operation.get('summary', '')}"]
    if path.startswith(ALIASED) and operation.get("operationId", "").startswith("getWebsite"):
        notes.append(f"Umami's clients find it under `/api/websites/{path.split('/', 3)[3]}` too.")
    operation["description"] = "\n\n".join(note for note in notes if note)


def _describe_parameter(parameter: Any) -> None:
    if not isinstance(parameter, dict):
        return
    schema = parameter.get("schema", {})
    if schema.get("default", "") is None:
        del schema["default"]
    if parameter.get("in") == "query" and "null" in schema.get("type", ""):
        # There is no null in a query.
        schema["type"] = next(kind for kind in schema["type"] if kind != "null")
        if "enum" in schema:
            schema["enum"] = [value for value in schema["enum"] if value is not None]
    word = PARAMETERS.get(parameter["name"])
    if word is None:
        return
    parameter.setdefault("description", word.meaning)
    example = word.example
    if example is not None and example not in schema.get("enum", [example]):
        example = schema["enum"][0]
    if example is not None:
        parameter.setdefault("example", example)


def _show(operation: Json, schemas: Json) -> None:
    """Put an example beside what is sent, and beside what is answered."""
    body = operation.get("requestBody", {}).get("content", {}).get(JSON)
    if body:
        body.setdefault("example", _example(body["schema"], schemas, in_request=True))
    for status, answer in operation["responses"].items():
        content = answer.get("content", {}).get(JSON) if status == "200" else None
        if content:
            content.setdefault("example", _example(content["schema"], schemas))


def _example(shape: Json, schemas: Json, name: str = "", *, in_request: bool = False) -> Any:
    """Return a value of a shape, made of the words' own values."""
    if "$ref" in shape:
        name = shape["$ref"].removeprefix(REFERENCE)
        return _example(schemas[name], schemas, name, in_request=in_request)
    for alternatives in ("allOf", "oneOf", "anyOf"):
        if alternatives in shape:
            return _example(shape[alternatives][0], schemas, in_request=in_request)
    if "properties" in shape:
        return {
            key: value
            for key, inner_shape in shape["properties"].items()
            if (value := _value(name, key, inner_shape, schemas, in_request)) is not None
            or not in_request
        }
    if shape.get("type") == "array":
        # A team comes in a list with its owner's membership.
        items = shape["items"].get("oneOf", []) if shape.get("minItems", 1) > 1 else []
        found = items or [shape["items"]]
        return [_example(inner_shape, schemas, in_request=in_request) for inner_shape in found]
    if isinstance(shape.get("additionalProperties"), dict):
        return {ID: _example(shape["additionalProperties"], schemas)}
    return shape.get("enum", [{"integer": 0}.get(shape.get("type", ""), "")])[0]


def _value(shape_name: str, key: str, shape: Json, schemas: Json, in_request: bool) -> Any:
    if in_request and _full_name(shape_name, key) in NOT_SHOWN:
        return None
    word = _word(shape_name, key)
    if any(True for _ in _references(shape)) or word is None:
        return _example(shape, schemas, in_request=in_request)
    return word.example


def _image(operation_id: str, place: str) -> Json:
    return {
        "get": {
            "operationId": operation_id,
            "summary": "Answer the image, and store a hit of the pixel.",
            "tags": ["pixels"],
            "security": [],
            "parameters": [
                {
                    **{"name": "slug", "in": place, "required": True},
                    "description": "The pixel's slug; with `.gif` after it in a path, if you like.",
                    "schema": {"type": "string"},
                    "example": "march-newsletter",
                },
                {
                    **{"name": "s", "in": "query"},
                    "description": "A signed recipient, as links are issued with.",
                    "schema": {"type": "string"},
                },
                {
                    **{"name": "r", "in": "query"},
                    "description": "A recipient in plain words, stored as unverified.",
                    "schema": {"type": "string"},
                    "example": "anna@example.org",
                },
            ],
            "responses": {
                status: {"description": text, "content": copy.deepcopy(GIF_CONTENT)}
                for status, text in IMAGE.items()
            },
        }
    }


def _in_requests(document: Json) -> set[str]:
    """Return the names of all shapes that a request's body is made of."""
    bodies = [
        operation["requestBody"]
        for item in document["paths"].values()
        for operation in _operations(item)
        if "requestBody" in operation
    ]
    found: set[str] = set()
    waiting = {name for body in bodies for name in _references(body)}
    while waiting:
        found |= waiting
        schemas = document["components"]["schemas"]
        waiting = {name for shape in waiting for name in _references(schemas[shape])} - found
    return found


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"].removeprefix(REFERENCE)
        value = list(value.values())
    if isinstance(value, list):
        for inner_value in value:
            yield from _references(inner_value)


def _say_default(shape: Json) -> None:
    if "default" not in shape:
        return
    default = shape.pop("default")
    if default not in (None, "", [], {}):
        said = shape.get("description", "")
        shape["description"] = f"{said} By default `{json.dumps(default)}`.".strip()
