# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The JSON Schema of the certificate, and what is needed to enforce it.

The validator supports only the keywords that the schema uses, so that the controller needs no further library. The
semantics of the keywords are those of U(https://json-schema.org/draft/2020-12/json-schema-validation).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Mapping

COLLECTION = Path(__file__).parents[3]
ROLE = COLLECTION / "roles/decommission"
SCHEMA: dict[str, Any] = json.loads((ROLE / "files/certificate.schema.json").read_text(encoding="utf-8"))
VERSION: int = SCHEMA["properties"]["schema_version"]["const"]

Certificate = Dict[str, Any]
"""As the schema defines it."""

TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
KEYWORDS: dict[str, tuple[str | None, Callable[[Any, Any], bool], str]] = {
    "const": (None, lambda value, expected: value == expected and not isinstance(value, bool), "is not {}"),
    "enum": (None, lambda value, allowed: value in allowed, "is none of {}"),
    "minLength": ("string", lambda text, least: len(text) >= least, "is shorter than {} characters"),
    "maxLength": ("string", lambda text, most: len(text) <= most, "is longer than {} characters"),
    "pattern": ("string", lambda text, pattern: re.search(pattern, text) is not None, "does not match {}"),
    "minimum": ("number", lambda number, least: number >= least, "is less than {}"),
    "minItems": ("array", lambda items, least: len(items) >= least, "has fewer than {} items"),
    "maxItems": ("array", lambda items, most: len(items) <= most, "has more than {} items"),
    "required": ("object", lambda value, names: all(name in value for name in names), "does not have all of {}"),
}
"""Each keyword with the type it applies to, its test of a value, and what to say of a value that fails it."""


def violation(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Return where and how a value first violates a JSON Schema, or none if it is valid.

    :raises RecursionError: if the value is nested too deeply.
    """
    return next(_violations(value, schema, ""), None)


def _violations(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    problems = list(_own_problems(value, schema))
    if problems:
        yield from (f"{path or 'the document'} {problem}" for problem in problems)
        return
    for part_path, part, part_schema in _parts(value, schema, path):
        if part_schema is None:
            yield f"{part_path} is an unknown property"
        else:
            yield from _violations(part, part_schema, part_path)


def _own_problems(value: Any, schema: Mapping[str, Any]) -> Iterator[str]:
    """Return what is wrong with a value itself, rather than with a part of it."""
    types = schema.get("type", list(TYPES))
    types = [types] if isinstance(types, str) else types
    if not any(_has_type(value, name) for name in types):
        yield f"is not of type {' or '.join(types)}"
        return
    for keyword, (applies_to, test, problem) in KEYWORDS.items():
        applies = keyword in schema and (applies_to is None or _has_type(value, applies_to))
        if applies and not test(value, schema[keyword]):
            yield problem.format(schema[keyword])


def _parts(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any, Mapping[str, Any] | None]]:
    """Return the items of a list or the properties of an object, each with its path and its schema, if it has one."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield f"{path}[{index}]", item, schema.get("items", {})
    elif isinstance(value, dict):
        for name, item in value.items():
            yield f"{path}.{name}".lstrip("."), item, _schema_of(name, schema)


def truncate(value: Any, schema: Mapping[str, Any]) -> Any:
    """Return a value without what a JSON Schema has no room for: unknown properties, and what is beyond C(maxLength) of
    texts and C(maxItems) of lists.
    """
    if isinstance(value, dict):
        parts = {name: _schema_of(name, schema) for name in value}
        return {name: truncate(value[name], part) for name, part in parts.items() if part is not None}
    if isinstance(value, list):
        return [truncate(item, schema.get("items", {})) for item in value[: schema.get("maxItems")]]
    return value[: schema.get("maxLength")] if isinstance(value, str) else value


def _schema_of(name: str, schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the schema of a property, or none if there must be no such property."""
    others = schema.get("additionalProperties", {})
    part: Mapping[str, Any] | None = schema.get("properties", {}).get(name, None if others is False else others)
    return part


def _has_type(value: Any, name: str) -> bool:
    # In Python, unlike in JSON, a boolean is an integer.
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, TYPES[name])
