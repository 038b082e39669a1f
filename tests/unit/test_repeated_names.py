"""Search bodies in which a name stands twice: both engines refuse these, so none of them may be mended on the way."""

from __future__ import annotations

import json

import pytest

from plugin_service.rescoring.search_request import Bypass, Plan, plan, strip
from whyrank.types import Policy

POLICY = Policy(index="docs", fields=("title", "body"), window=50)

TWICE = [
    rb'{"size":1,"size":2,"query":{"match":{"title":"red"}}}',
    rb'{"size":1,"si\u007ae":2,"query":{"match":{"title":"red"}}}',
    rb'{"query":{"match":{"title":"red"}},"query":{"match":{"title":"blue"}}}',
]


@pytest.mark.parametrize("body", TWICE)
def test_a_name_that_stands_twice_is_the_engines_to_refuse(body: bytes) -> None:
    outcome = plan(body, {}, POLICY)
    assert isinstance(outcome, Bypass)
    assert outcome.reason == "not_json"
    with_options = b'{"ext":{"whyrank":{}},' + body[1:]
    assert strip(with_options) is with_options


def test_a_name_that_stands_further_in_as_well_is_no_repetition() -> None:
    search = {"query": {"multi_match": {"query": "red \\ shoes", "size": 1}}, "size": 3}
    outcome = plan(json.dumps(search).encode(), {}, POLICY)
    assert isinstance(outcome, Plan), outcome
    assert json.loads(outcome.body)["query"] == search["query"]
