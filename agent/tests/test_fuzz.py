# SPDX-License-Identifier: GPL-3.0-or-later
"""A real agent's REST API, asked at random what docs/openapi.yml describes, and what it does not.

The same questions every time (`derandomize`); more of them, and others, with
`--hypothesis-seed=N` and a larger EXAMPLES.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent.tests.living import AUTHORIZATION, Living, living
from agent.tests.openapi import METHODS, Description
from pgherd.config import Timing
from pgherd.dynamic_schema import check_dynamic
from pgherd.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.tests.etcd_processes import EtcdMember

DESCRIPTION: Final = Description()
EXAMPLES: Final = 12
# Some restart PostgreSQL.
WITHIN: Final = 60.0

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


def values(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Return values as *schema* has them, with others among them."""
    schema = DESCRIPTION.resolve(schema)
    likely = [st.just(schema[word]) for word in ("const", "example") if word in schema]
    likely += [st.sampled_from(schema[word]) for word in ("enum", "examples") if word in schema]
    if "object" in schema.get("type", ()) and "properties" in schema:
        known = {name: values(inner) for name, inner in schema["properties"].items()}
        required = {name: known.pop(name) for name in schema.get("required", ())}
        likely.append(st.fixed_dictionaries(required, optional=known))
    elif "boolean" in schema.get("type", ()):
        likely.append(st.booleans())
    return st.one_of(*likely, *likely, JUNK)


@dataclass(frozen=True)
class Question:
    """One request.

    :param body: sent as it is.
    """

    method: str
    target: str
    body: bytes | None
    headers: Mapping[str, str]

    def ask(self, port: int) -> tuple[int, str, Any]:
        """Return status, type and body of the answer; the body is read where it is JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WITHIN)
        try:
            connection.request(self.method, self.target, self.body, dict(self.headers))
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        content_type = answer.headers.get_content_type()
        is_json = content_type == "application/json" and text
        return answer.status, content_type, json.loads(text) if is_json else text.decode()


@st.composite
def questions(draw: st.DrawFn, path: str, method: str, operation: Mapping[str, Any]) -> Question:
    """Return requests of one *operation*, most of them as it is described."""
    target, query = path, {}
    for parameter in operation["parameters"]:
        value = str(draw(values({**parameter["schema"], "example": parameter.get("example", "1")})))
        if parameter["in"] == "path":
            target = target.replace(f"{{{parameter['name']}}}", quote(value, safe="") or "x")
        elif draw(st.booleans()):
            query[parameter["name"]] = value.encode(errors="replace")
    headers = {} if draw(st.integers(0, 9)) == 0 else {"Authorization": AUTHORIZATION}
    body = None
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        given = draw(values(schema))
        body = json.dumps(given).encode() if draw(st.integers(0, 9)) else draw(st.binary())
    return Question(method, f"{target}?{urlencode(query)}" if query else target, body, headers)


@st.composite
def strange_questions(draw: st.DrawFn) -> Question:
    """Return requests that nobody has described."""
    known = [path for path, _, _ in DESCRIPTION.operations()]
    path = draw(st.sampled_from(known) | st.text(max_size=30).map(lambda text: f"/{quote(text)}"))
    names = [method.upper() for method in METHODS]
    method = draw(st.sampled_from([*names, "TRACE", "FOO", "get", "M-SEARCH"]))
    query = urlencode(draw(st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3)))
    return Question(method, f"{path}?{query}" if query else path, draw(st.none() | st.binary()), {})


FUZZ = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def fuzz_described(port: int) -> int:
    """Ask what is described; return how many questions were asked."""
    count = 0
    for path, method, operation in DESCRIPTION.operations():
        count += fuzz_operation(port, operation, questions(path, method, operation))
    return count


def fuzz_operation(
    port: int, operation: Mapping[str, Any], asked: st.SearchStrategy[Question]
) -> int:
    """Ask for one *operation*; return how many questions were asked."""
    count = 0

    @FUZZ
    @given(asked)
    def ask(question: Question) -> None:
        nonlocal count
        count += 1
        status, content_type, body = question.ask(port)
        DESCRIPTION.check(operation, status, content_type, body)

    ask()
    return count


def fuzz_strange(port: int) -> int:
    """Ask what is not described; return how many questions were asked."""
    count = 0
    documented = {200, 202, 400, 401, 403, 404, 409, 411, 412, 422, 500, 501, 502, 503}

    @settings(FUZZ, max_examples=30 * EXAMPLES)
    @given(strange_questions())
    def ask(question: Question) -> None:
        nonlocal count
        count += 1
        status, _, body = question.ask(port)
        assert status in documented, body

    ask()
    return count


CONFIGURATIONS = values({"$ref": "#/components/schemas/Configuration"}).filter(
    lambda value: isinstance(value, dict)
)


@settings(FUZZ, max_examples=15 * EXAMPLES)
@given(CONFIGURATIONS)
@example({"standby_cluster": {"host": "a", "port": "²"}})
def test_any_configuration_is_judged_and_read(raw: dict[str, Any]) -> None:
    """What is asked for is judged; what stands in etcd, from whomever, has to be lived with."""
    check_dynamic(raw, asdict(Timing()))
    Settings.parse(raw)


async def still_leads(known: Living) -> bool:
    """Whether the agent is as well as before."""
    is_alive = await asyncio.to_thread(known.status, "/liveness") == 200
    return is_alive and await asyncio.to_thread(known.status, "/patroni") == 200


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("real_etcd")
async def test_whatever_is_asked_is_answered_as_documented(
    etcd_members: list[EtcdMember], caplog: pytest.LogCaptureFixture
) -> None:
    async with living(etcd_members) as known:
        assert await asyncio.to_thread(fuzz_strange, known.port) >= EXAMPLES
        assert await still_leads(known)
        assert await asyncio.to_thread(fuzz_described, known.port) >= EXAMPLES
        assert await still_leads(known)
    # Whatever was not foreseen is logged with its traceback.
    assert [each.getMessage() for each in caplog.records if each.name == "pgherd.server"] == []
