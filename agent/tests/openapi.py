# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/openapi.yml as the tests use it: what is documented, whether an answer is as documented."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import jsonschema
import yaml

FILE: Final = Path(__file__).parents[2] / "docs" / "openapi.yml"
METHODS: Final = ("get", "head", "options", "post", "put", "patch", "delete")
# What is no request, or one for which there is no method, gets these wherever it goes.
EVERYWHERE: Final = frozenset({400, 408, 411, 413, 414, 431, 501, 505})


class Description:
    """The file."""

    def __init__(self) -> None:
        self.raw: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))

    def resolve(self, part: Any) -> Any:
        """Return what *part* refers to, *part* itself when that is nothing."""
        while isinstance(part, Mapping) and "$ref" in part:
            found: Any = self.raw
            for word in part["$ref"].removeprefix("#/").split("/"):
                found = found[word]
            part = found
        return part

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield path, method and description of every operation, its parameters with the path's."""
        for path, raw in self.raw["paths"].items():
            item = self.resolve(raw)
            for method in METHODS:
                if method in item:
                    parameters = [*item.get("parameters", []), *item[method].get("parameters", [])]
                    resolved = [self.resolve(each) for each in parameters]
                    yield path, method.upper(), {**item[method], "parameters": resolved}

    def check(
        self, operation: Mapping[str, Any], status: int, content_type: str, body: Any
    ) -> None:
        """See that an answer is as it is documented.

        :param body: read already, where it is JSON.
        :raises AssertionError, jsonschema.ValidationError: it is not.
        """
        if str(status) not in operation["responses"]:
            assert status in EVERYWHERE, f"{status} is not documented: {body}"
            return
        content = self.resolve(operation["responses"][str(status)]).get("content")
        if content is None:
            assert not body
            return
        assert content_type in content
        schema = {**content[content_type]["schema"], "components": self.raw["components"]}
        jsonschema.Draft202012Validator(schema).validate(body)
