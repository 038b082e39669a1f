"""Search answers on their way out: candidates, and the page in the ranking's order with nothing else changed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from plugin_service.rescoring.search_request import Plan
from plugin_service.rescoring.search_response import ParsedResponse, apply_order, parse, render
from whyrank.errors import EngineError
from whyrank.passages import content_hash
from whyrank.types import (
    Candidate,
    FailureKind,
    Fragment,
    FusionWeights,
    Mode,
    Policy,
    Quote,
    RankedHit,
    Ranking,
    Status,
    Verdict,
    VerdictFailure,
)

PLAN = Plan(
    query="red shoes",
    offset=0,
    size=10,
    window=50,
    mode=Mode.REASON,
    deadline_ms=300,
    ranking_id=None,
    explain=True,
    body=b"{}",
    params={},
    borrowed_fields=(),
    fingerprint="f",
)
VERDICT = Verdict(
    label=2,
    label_probabilities=(0.0, 0.0, 1.0),
    relevance=1.0,
    explanation='The document states "red shoes".',
    quotes=(Quote("red shoes", 4, 13), Quote("blue shoes")),
    grounded=True,
    mode=Mode.REASON,
    model_revision="r1",
)


def with_plan(**changes: Any) -> Plan:
    return msgspec.structs.replace(PLAN, **changes)


def policy(*fields: str) -> Policy:
    return Policy(index="docs", fields=fields)


def answer(*hits: bytes, extra: bytes = b"") -> bytes:
    return (
        b'{"took":3,"timed_out":false,"_shards":{"total":1,"failed":0},"hits":{"total":{"value":2,"relation":"eq"},'
        b'"max_score":1.10,"hits":[' + b",".join(hits) + b"]}" + extra + b"}"
    )


def hit(id_: str, source: bytes = b"{}", rest: bytes = b"", index: str = "docs") -> bytes:
    return f'{{"_index":"{index}","_id":"{id_}","_score":1.10,"_source":'.encode() + source + rest + b"}"


def ranked(candidate: Candidate, position: int, verdict: Verdict | None = None, **more: Any) -> RankedHit:
    return RankedHit(candidate.id, candidate.index, position, candidate.engine_score, verdict=verdict, **more)


def ranking_of(hits: Sequence[RankedHit], **changes: Any) -> Ranking:
    ranking = Ranking(
        id="rank-1",
        query="red shoes",
        mode=Mode.REASON,
        model_revision="r1",
        status=Status.COMPLETE,
        reason="",
        created=0.0,
        weights=FusionWeights(),
        hits=tuple(hits),
    )
    return msgspec.structs.replace(ranking, **changes)


def texts(source: bytes, *paths: str, rest: bytes = b"") -> dict[str, str]:
    (candidate,) = parse(answer(hit("1", source, rest)), PLAN, policy(*paths)).candidates
    assert candidate.content_hash == content_hash(candidate.fields)
    return {field.field: field.text for field in candidate.fields}


# Candidates


def test_a_candidate_of_each_hit_in_the_engines_order() -> None:
    body = answer(hit("1", b'{"body":"b","title":"t"}'), hit("1", b'{"title":"u"}', index="other"), hit("2"))
    first, second, third = parse(body, PLAN, policy("title", "body")).candidates
    assert (first.id, first.index, first.engine_score) == ("1", "docs", 1.1)
    assert first.fields == (Fragment("title", "t"), Fragment("body", "b"))
    assert (second.index, second.fields) == ("other", (Fragment("title", "u"),))
    assert third.fields == ()


@pytest.mark.parametrize(
    ("source", "path", "text"),
    [
        (b'{"a":"x"}', "a", "x"),
        (b'{"a":"caf\\u00e9 \\n \xf0\x9f\x91\x9f"}', "a", "café \n 👟"),
        (b'{"a":["x","y",["z"]]}', "a", "x\ny\nz"),
        (b'{"a":{"b":"x"}}', "a.b", "x"),
        (b'{"a.b":"x"}', "a.b", "x"),
        (b'{"a":{"b.c":"x"}}', "a.b.c", "x"),
        (b'{"a.b":{"c":"x"},"a":{"b":{"c":"y"}}}', "a.b.c", "y\nx"),
        (b'{"a":[{"b":"x"},{"c":1},{"b":["y","z"]}]}', "a.b", "x\ny\nz"),
        (b'{"a":[{"b":[{"c":"x"}]},{"b":{"c":"y"}}]}', "a.b.c", "x\ny"),
        (b'{"a":1.10}', "a", "1.10"),
        (b'{"a":1180591620717411303424}', "a", "1180591620717411303424"),
        (b'{"a":[1e400,-2,true,false,null,""]}', "a", "1e400\n-2\ntrue\nfalse"),
        (b'{"a":null}', "a", None),
        (b'{"a":""}', "a", None),
        (b'{"a":" \\n"}', "a", None),
        (b'{"a":{"b":"x"}}', "a", None),
        (b'{"a":"x"}', "a.b", None),
        (b'{"a":[]}', "a.b", None),
        (b"{}", "a", None),
        (b'{"a":' + b"[" * 100 + b'"x"' + b"]" * 100 + b"}", "a", None),
    ],
)
def test_text_at_a_path(source: bytes, path: str, text: str | None) -> None:
    assert texts(source, path).get(path) == text


@pytest.mark.parametrize(
    ("fields", "path", "text"),
    [
        (b'{"a":["x","y"]}', "a", "x\ny"),
        (b'{"a.b":["x"]}', "a.b", "x"),
        (b'{"a":[{"b":["x"]},{"b":["y"],"c":["z"]}]}', "a.b", "x\ny"),
        (b'{"a":[{"b.c":["x"]}]}', "a.b.c", "x"),
    ],
)
def test_text_in_fields(fields: bytes, path: str, text: str) -> None:
    assert texts(b'{"other":1}', path, rest=b',"fields":' + fields) == {path: text}


def test_text_that_the_engine_would_not_index() -> None:
    assert texts(b"{}", "a", rest=b',"ignored_field_values":{"a":["very long"]}') == {"a": "very long"}


def test_the_source_comes_before_fields() -> None:
    assert texts(b'{"a":"1.10"}', "a", rest=b',"fields":{"a":[1.1]}') == {"a": "1.10"}


def test_hits_without_source_or_score() -> None:
    (candidate,) = parse(answer(b'{"_index":"docs","_id":"1","_score":null}'), PLAN, policy("a")).candidates
    assert (candidate.fields, candidate.engine_score) == ((), None)


def test_hits_beyond_the_window_are_no_candidates_and_come_last() -> None:
    plan = with_plan(window=2)
    parsed = parse(answer(hit("1"), hit("2"), hit("3")), plan, policy("a"))
    assert [candidate.id for candidate in parsed.candidates] == ["1", "2"]
    ranking = ranking_of([ranked(parsed.candidates[1], 1), ranked(parsed.candidates[0], 0)])
    assert ids(render(parsed, ranking, plan)) == ["2", "1", "3"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"error":{"type":"x"},"status":400}',
        b'{"hits":[]}',
        b'{"hits":{"total":3}}',
        b'{"hits":{"hits":{}}}',
        answer(b'{"_index":"docs"}'),
        answer(b'{"_id":7,"_index":"docs"}'),
        answer(hit("1", b'{"a":"\xff"}')),
        answer(hit("1", b'"text"')),
        answer(hit("1", b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}")),
    ],
)
def test_what_is_not_a_search_answer(body: bytes) -> None:
    with pytest.raises(EngineError):
        parse(body, PLAN, policy("a"))


# The page


def ids(body: bytes) -> list[str]:
    return [entry["_id"] for entry in json.loads(body)["hits"]["hits"]]


def identity(parsed: ParsedResponse, verdict: Verdict | None = None) -> Ranking:
    return ranking_of([ranked(c, position, verdict) for position, c in enumerate(parsed.candidates)])


def fields_of(body: bytes) -> dict[str, Any]:
    (entry,) = json.loads(body)["hits"]["hits"]
    return dict(entry.get("fields", {}))


def test_every_byte_that_is_not_ours_stays() -> None:
    source = rb'{ "n":1.10 ,"big":1180591620717411303424,"inf":1e400,"t":"caf\u00e9 \/" }'
    extra = rb',"aggregations":{"x":{"value":1.0E-7}},"suggest":{},"profile":{"shards":[ ]},"pit_id":"p\/"'
    body = answer(hit("1", source, rb',"highlight":{"t":["<em>\u00e9"]}'), extra=extra)
    parsed = parse(body, PLAN, policy("t"))
    rendered = render(parsed, identity(parsed), PLAN)
    assert rendered == (
        answer(
            hit("1", source, rb',"highlight":{"t":["<em>\u00e9"]},"fields":{"whyrank.engine_rank":[1]}'),
            extra=extra
            + b',"ext":{"whyrank":{"status":"complete","reason":"","ranking_id":"rank-1","mode":"reason","window":50,'
            b'"judged":0,"missing":0,"failed":0,"truncated":0,"model_revision":"r1","query":"red shoes"}}',
        )
    )


def test_a_document_with_a_lone_surrogate_does_not_keep_the_search_from_being_rescored() -> None:
    source = rb'{"t":"lone \ud800 and \uDfff, pair \ud83d\udc5f, escaped \\ud800","u":"\ud83d"}'
    body = answer(hit("1", source), hit("2", b'{"t":"x"}'))
    parsed = parse(body, PLAN, policy("t"))
    assert parsed.candidates[0].fields[0].text == "lone \ufffd and \ufffd, pair 👟, escaped \\ud800"
    rendered = render(parsed, ranking_of([ranked(parsed.candidates[1], 1)]), PLAN)
    assert ids(rendered) == ["2", "1"]
    assert source in rendered


def test_what_is_said_of_a_judged_hit() -> None:
    parsed = parse(answer(hit("1", b'{"t":"The red shoes"}', b',"fields":{"mine":[1.10]}')), PLAN, policy("t"))
    hit_ = ranked(parsed.candidates[0], 0, VERDICT, score=1.0, key="k")
    rendered = render(parsed, ranking_of([hit_]), PLAN)
    assert fields_of(rendered) == {
        "mine": [1.10],
        "whyrank.engine_rank": [1],
        "whyrank.score": [1.0],
        "whyrank.label": [2],
        "whyrank.relevance": [1.0],
        "whyrank.grounded": [True],
        "whyrank.explanation": ['The document states "red shoes".'],
        "whyrank.quotes": [{"text": "red shoes", "start": 4, "end": 13}],
    }
    assert b'"mine":[1.10]' in rendered
    assert b'"whyrank.score":[1.0]' in rendered
    assert b'"whyrank.relevance":[1.0]' in rendered


def test_the_similarity_stands_beside_the_relevance_where_it_is_known() -> None:
    parsed = parse(answer(hit("1")), PLAN, policy("t"))
    fields = fields_of(render(parsed, identity(parsed, msgspec.structs.replace(VERDICT, similarity=0.75)), PLAN))
    assert (fields["whyrank.relevance"], fields["whyrank.similarity"]) == ([1.0], [0.75])


def test_an_ungrounded_explanation_is_not_shown() -> None:
    parsed = parse(answer(hit("1")), PLAN, policy("t"))
    fields = fields_of(render(parsed, identity(parsed, msgspec.structs.replace(VERDICT, grounded=False)), PLAN))
    assert fields["whyrank.grounded"] == [False]
    assert "whyrank.explanation" not in fields


def test_a_label_alone_has_nothing_to_ground() -> None:
    parsed = parse(answer(hit("1")), PLAN, policy("t"))
    verdict = msgspec.structs.replace(VERDICT, mode=Mode.LABEL, explanation="", quotes=(), relevance=0.0, label=0)
    fields = fields_of(render(parsed, identity(parsed, verdict), PLAN))
    assert fields == {"whyrank.engine_rank": [1], "whyrank.label": [0], "whyrank.relevance": [0.0]}


def test_explanations_can_be_left_out() -> None:
    plan = with_plan(explain=False)
    parsed = parse(answer(hit("1")), plan, policy("t"))
    fields = fields_of(render(parsed, identity(parsed, VERDICT), plan))
    assert set(fields) == {"whyrank.engine_rank", "whyrank.label", "whyrank.relevance", "whyrank.grounded"}


def test_the_summary_joins_an_ext_that_is_there() -> None:
    parsed = parse(answer(hit("1"), hit("2"), hit("3"), extra=b',"ext":{"ubi":{"query_id":"7"}}'), PLAN, policy("t"))
    first, second, third = parsed.candidates
    ranking = ranking_of(
        [
            ranked(first, 0, VERDICT, key="a", truncated=True),
            ranked(second, 1, key="b"),
            ranked(third, 2, key="c", failure=VerdictFailure(FailureKind.NO_LABEL)),
        ],
        status=Status.PARTIAL,
        reason="deadline",
    )
    assert json.loads(render(parsed, ranking, PLAN))["ext"] == {
        "ubi": {"query_id": "7"},
        "whyrank": {
            "status": "partial",
            "reason": "deadline",
            "ranking_id": "rank-1",
            "mode": "reason",
            "window": 50,
            "judged": 1,
            "missing": 1,
            "failed": 1,
            "truncated": 1,
            "model_revision": "r1",
            "query": "red shoes",
        },
    }


@pytest.mark.parametrize(
    ("borrowed", "fields", "left"),
    [
        (("t",), b'{"t":["x"]}', {}),
        (("t",), b'{"t":["x"],"mine":[1]}', {"mine": [1]}),
        (("a.b",), b'{"a.b":["x"],"a.c":["y"]}', {"a.c": ["y"]}),
        (("a.b",), b'{"a":[{"b":["x"]},{"b":["y"]}]}', {}),
        (("a.b",), b'{"a":[{"b":["x"],"c":["z"]},{"b":["y"]}]}', {"a": [{"c": ["z"]}]}),
        (("a.b.c", "a.b.d"), b'{"a":[{"b":[{"c":["x"],"d":["y"],"e":[1]}]}]}', {"a": [{"b": [{"e": [1]}]}]}),
        (("a.b",), b'{"a":["text"]}', {"a": ["text"]}),
    ],
)
def test_what_was_borrowed_is_given_back(borrowed: tuple[str, ...], fields: bytes, left: dict[str, Any]) -> None:
    plan = with_plan(borrowed_fields=borrowed)
    rest = b',"fields":' + fields + b',"ignored_field_values":{"t":["long"]}'
    parsed = parse(answer(hit("1", b"{}", rest)), plan, policy(*borrowed))
    rendered = render(parsed, identity(parsed), plan)
    assert fields_of(rendered) == {**left, "whyrank.engine_rank": [1]}
    assert (b"ignored_field_values" in rendered) == ("t" not in borrowed)


# The order


def test_the_same_id_in_two_indices_is_two_hits() -> None:
    parsed = parse(answer(hit("1"), hit("1", index="other")), PLAN, policy("t"))
    first, second = parsed.candidates
    order = apply_order(parsed, ranking_of([ranked(second, 1), ranked(first, 0)]))
    assert [position for position, _ in order] == [1, 0]


def test_the_same_hit_twice_is_there_twice() -> None:
    parsed = parse(answer(hit("1"), hit("1"), hit("2")), PLAN, policy("t"))
    one, _, two = parsed.candidates
    assert [position for position, _ in apply_order(parsed, ranking_of([ranked(two, 2), ranked(one, 0)]))] == [2, 0, 1]


def test_an_index_that_changed_since_the_ranking() -> None:
    before = parse(answer(hit("gone"), hit("1"), hit("2")), PLAN, policy("t"))
    ranking = ranking_of([ranked(before.candidates[n], n) for n in (2, 0, 1)])
    now = parse(answer(hit("new"), hit("1"), hit("2"), hit("newer")), PLAN, policy("t"))
    rendered = render(now, ranking, PLAN)
    assert ids(rendered) == ["2", "1", "new", "newer"]
    ranks = [entry["fields"]["whyrank.engine_rank"] for entry in json.loads(rendered)["hits"]["hits"]]
    assert ranks == [[3], [2], [1], [4]]


@given(
    keys=st.lists(st.tuples(st.sampled_from(["docs", "other"]), st.sampled_from("abcdefghij")), max_size=30),
    known=st.integers(0, 30),
    cuts=st.lists(st.integers(1, 30), max_size=6),
    random=st.randoms(use_true_random=False),
)
def test_the_pages_hold_every_hit_once(keys: list[tuple[str, str]], known: int, cuts: list[int], random: Any) -> None:
    """Whatever the ranking, and however the window is cut into pages."""
    body = answer(*(hit(id_, b'{"n":%d}' % n, index=index) for n, (index, id_) in enumerate(keys)))
    parsed = parse(body, PLAN, policy("n"))
    hits = [ranked(candidate, position) for position, candidate in enumerate(parsed.candidates)]
    random.shuffle(hits)
    ranking = ranking_of([*hits[:known], RankedHit("gone", "docs", 40)])
    seen: list[int] = []
    bounds = sorted({0, *(cut for cut in cuts if cut < len(keys)), len(keys)})
    for start, end in itertools.pairwise(bounds):
        page = json.loads(render(parsed, ranking, with_plan(offset=start, size=end - start)))["hits"]["hits"]
        assert len(page) == end - start
        seen.extend(entry["_source"]["n"] for entry in page)
    assert sorted(seen) == list(range(len(keys)))
    beyond = json.loads(render(parsed, ranking, with_plan(offset=len(keys), size=5)))
    assert beyond["hits"]["hits"] == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "a.b"]), inner, max_size=3),
    max_leaves=20,
)


@given(source=st.dictionaries(st.sampled_from(["a", "b", "a.b"]), JSON), ascii_=st.booleans())
def test_any_document_comes_through_unchanged(source: dict[str, Any], ascii_: bool) -> None:
    written = json.dumps(source, ensure_ascii=ascii_).replace("Infinity", "1e999").encode()
    parsed = parse(answer(hit("1", written)), PLAN, policy("a", "a.b"))
    for field in parsed.candidates[0].fields:
        assert field.text.strip()
    rendered = render(parsed, identity(parsed), PLAN)
    section = msgspec.json.decode(msgspec.json.decode(rendered, type=dict[str, Raw])["hits"], type=dict[str, Raw])
    (entry,) = msgspec.json.decode(section["hits"], type=list[dict[str, Raw]])
    assert bytes(entry["_source"]) == written
