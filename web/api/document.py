"""The API's document as clients are made from it: what the routes declare, set right in places.

A default in a request makes a property one that is always there, for those who make types of it;
so none is named there, and what is left out is said in words.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from apispec import APISpec

REFERENCE = "#/components/schemas/"
ALIASED = "/api/pixels/{pixel_id}/"
LICENSE = {"name": "MIT", "identifier": "MIT"}
IMAGE = {
    "200": {
        "description": "The image, always the same 43 bytes: the hit is committed.",
        "content": {"image/gif": {"schema": {"type": "string", "contentMediaType": "image/gif"}}},
    },
    "404": {
        "description": "The image all the same: no pixel has the slug.",
        "content": {"image/gif": {"schema": {"type": "string", "contentMediaType": "image/gif"}}},
    },
    "503": {
        "description": "The image all the same: the hit could not be stored.",
        "content": {"image/gif": {"schema": {"type": "string", "contentMediaType": "image/gif"}}},
    },
}


class Document:
    """The document of an API, as everything that shows it reads it."""

    def __init__(self, spec: APISpec) -> None:
        self._spec = spec

    def to_dict(self) -> dict[str, Any]:
        """Return the document of all routes, the image's included."""
        return finished(self._spec.to_dict())


def finished(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the document of all routes, the image's included."""
    document = copy.deepcopy(spec)
    document["info"]["license"] = LICENSE
    document["servers"] = [{"url": "/", "description": "This server."}]
    document["paths"] |= {
        "/p/{slug}": _image("getImage", "path"),
        "/api/send": {**_image("getImageBySlug", "query"), **document["paths"]["/api/send"]},
    }
    schemas = document["components"]["schemas"]
    for name in _in_requests(document):
        for shape in schemas[name].get("properties", {}).values():
            _say_default(shape)
    for path, methods in document["paths"].items():
        for operation in (each for each in methods.values() if isinstance(each, dict)):
            _finish(path, operation)
    return document


def _finish(path: str, operation: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", []):
        if isinstance(parameter, dict) and parameter.get("schema", {}).get("default", "") is None:
            del parameter["schema"]["default"]
    notes = [operation.get("description") or f"{operation.get('summary', '')}"]
    if path.startswith(ALIASED) and operation.get("operationId", "").startswith("getWebsite"):
        notes.append(f"Umami's clients find it under `/api/websites/{path.split('/', 3)[3]}` too.")
    operation["description"] = "\n\n".join(note for note in notes if note)


def _image(operation_id: str, place: str) -> dict[str, Any]:
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
                },
            ],
            "responses": copy.deepcopy(IMAGE),
        }
    }


def _in_requests(document: dict[str, Any]) -> set[str]:
    """Return the names of all shapes that a request's body is made of."""
    bodies = [
        operation["requestBody"]
        for methods in document["paths"].values()
        for operation in methods.values()
        if isinstance(operation, dict) and "requestBody" in operation
    ]
    found: set[str] = set()
    waiting = {name for body in bodies for name in _references(body)}
    while waiting:
        found |= waiting
        schemas = document["components"]["schemas"]
        waiting = {name for each in waiting for name in _references(schemas[each])} - found
    return found


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"].removeprefix(REFERENCE)
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _references(each)


def _say_default(shape: dict[str, Any]) -> None:
    if "default" not in shape:
        return
    default = shape.pop("default")
    if default not in (None, "", [], {}):
        said = shape.get("description", "")
        shape["description"] = f"{said} By default `{default}`.".strip()
