# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Answers of Synapse, checked as they are read."""

from __future__ import annotations

import json
from typing import Any, Callable, Dict, TypeVar

from .errors import RefusedError

JsonDict = Dict[str, Any]
Kind = TypeVar("Kind")


class Answer(Dict[str, Any]):
    """A JSON object that a server answered with. What is not as it must be in it is an error of the server's."""

    def __init__(
        self,
        content: JsonDict,
        method: str,
        url: str,
        date: str | None = None,
        hide: Callable[[str], str] = str,
    ) -> None:
        """
        :param hide: replaces the secrets in a text: an answer may repeat them.
        """
        super().__init__(content)
        self.date = date
        self._method = method
        self._url = url
        self._hide = hide

    def error(self, error: str, problem: str | None = None) -> RefusedError:
        """The error that the answer is not as it must be. For I(problem) see C(SynapseError)."""
        error = self._hide(f"the answer {error}")
        return RefusedError(error, method=self._method, url=self._url, status=200, problem=problem)

    def take(self, key: str, kind: type[Kind], default: Kind | None = None) -> Kind:
        """The value of a key, which must be of that type. Without a default it must be there."""
        value = self.get(key, default)
        if not isinstance(value, kind):
            raise self.error(f"has no {kind.__name__} '{key}'")
        return value

    def objects(self, key: str) -> list[Answer]:
        """The value of a key, which must be a list of JSON objects."""
        items = self.take(key, list)
        if not all(isinstance(item, dict) for item in items):
            raise self.error(f"has something else than objects in '{key}'")
        return [Answer(item, self._method, self._url, hide=self._hide) for item in items]

    def texts(self, key: str) -> list[str]:
        """The value of a key, which must be a list of strings."""
        items = self.take(key, list)
        if not all(isinstance(item, str) for item in items):
            raise self.error(f"has something else than strings in '{key}'")
        return items

    def object(self, key: str) -> Answer:
        """The value of a key, which must be a JSON object, and if it is not there is an empty one."""
        return Answer(self.take(key, dict, {}), self._method, self._url, hide=self._hide)


def json_object(content: bytes) -> JsonDict | None:
    """The JSON object of a body, or C(None) if it is something else."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None
