from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whyrank.passages import GAP, content_hash, estimate_tokens, fit, head, needs_fragments
from whyrank.types import Candidate, Fragment, Passage


def candidate(**fields: str) -> Candidate:
    made = tuple(Fragment(name, text) for name, text in fields.items())
    return Candidate("1", "index", made, content_hash(made))


SENTENCES = [f"Sentence number {i:02} tells of something." for i in range(60)]
LONG = " ".join(SENTENCES)


def test_a_document_that_fits_is_taken_whole() -> None:
    document = candidate(title=" A title ", empty="", body="The body.\n\nIts end.")
    assert fit(document, 64, None) == Passage("A title\nThe body.\n\nIts end.", truncated=False)
    assert not needs_fragments(document, 64)


def test_a_long_document_keeps_its_title_and_its_best_fragments_in_its_own_order() -> None:
    document = candidate(title="A title", body=LONG)
    assert needs_fragments(document, 40)
    passage = fit(document, 40, {"body": [SENTENCES[30], SENTENCES[20]]})
    assert passage.truncated
    title, body = passage.text.split("\n")
    assert title == "A title"
    assert body.endswith(SENTENCES[20] + GAP + SENTENCES[30])


def test_fragments_that_touch_need_no_gap() -> None:
    text = fit(candidate(body=LONG), 26, {"body": [SENTENCES[31], SENTENCES[30]]}).text
    assert text.endswith(f"{SENTENCES[30]} {SENTENCES[31]}")


def test_the_best_fragments_of_all_fields_come_before_the_second_best_of_any() -> None:
    document = candidate(body=LONG, notes=LONG.replace("Sentence", "Remark"))
    fragments = {"body": [SENTENCES[9], SENTENCES[40]], "notes": [SENTENCES[50].replace("Sentence", "Remark")]}
    text = fit(document, 30, fragments).text
    assert SENTENCES[9] in text
    assert "Remark number 50" in text
    assert SENTENCES[40] not in text


def test_a_fragment_that_is_not_in_the_document_is_left_out() -> None:
    assert "intruder" not in fit(candidate(body=LONG), 40, {"body": ["an intruder"], "other": ["an intruder"]}).text


def test_without_fragments_the_beginning_is_cut_at_a_sentence() -> None:
    text = fit(candidate(title="A title", body=LONG), 64, None).text
    assert LONG.startswith(text.removeprefix("A title\n"))
    assert text.endswith("something.")
    assert estimate_tokens(text) > 40


def test_without_sentences_it_is_cut_at_a_word() -> None:
    assert set(head("word " * 1000, 20).split()) == {"word"}


def test_ten_megabytes_without_a_space() -> None:
    document = candidate(title="A title", body="x" * 10_000_000)
    assert needs_fragments(document, 256)
    text = fit(document, 256, {"body": ["x" * 1_000_000]}).text
    assert 200 <= estimate_tokens(text) <= 256


def test_half_a_surrogate_pair_does_not_reach_the_passage() -> None:
    assert fit(candidate(body="a \ud83d b"), 64, None).text == "a ? b"


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [("The quick brown fox jumps.", 6, 9), ("2024-05-17", 8, 12), ("量子计算机", 5, 10), ("", 0, 0)],
)
def test_estimates(text: str, least: int, most: int) -> None:
    assert least <= estimate_tokens(text) <= most


TEXT = st.lists(
    st.text(max_size=30) | st.sampled_from([" ", "\n", ". ", "word " * 9, "x" * 90, "量子" * 20, "77 "]), max_size=12
).map("".join)


@given(st.lists(st.tuples(st.sampled_from("abc"), TEXT), max_size=4), st.integers(0, 60), st.data())
def test_a_passage_never_exceeds_its_budget_and_holds_only_the_documents_text(
    fields: list[tuple[str, str]], budget: int, data: st.DataObject
) -> None:
    made = tuple(Fragment(name, text) for name, text in fields)
    document = Candidate("1", "i", made, content_hash(made))
    fragments: dict[str, list[str]] = {"a": ["word word", "not there"]}
    for name, text in fields:
        start = data.draw(st.integers(0, len(text)))
        fragments.setdefault(name, []).append(text[start : data.draw(st.integers(start, len(text)))])
    passage = fit(document, budget, fragments)
    assert estimate_tokens(passage.text) <= budget
    assert passage.truncated is needs_fragments(document, budget)
    whole = "\n".join(text.encode("utf-8", "replace").decode() for _, text in fields)
    for part in re.split("[…\n]", passage.text):
        assert part.strip() in whole
    assert fit(document, budget, fragments) == passage


@given(TEXT, TEXT)
def test_more_text_is_never_fewer_tokens(first: str, second: str) -> None:
    assert estimate_tokens(first + second) >= max(estimate_tokens(first), estimate_tokens(second))


@given(
    st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), max_size=4),
    st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), max_size=4),
)
def test_documents_have_one_hash_only_when_they_are_the_same(
    first: list[tuple[str, str]], second: list[tuple[str, str]]
) -> None:
    a, b = ([Fragment(name, text) for name, text in fields] for fields in (first, second))
    assert (content_hash(a) == content_hash(b)) is (a == b)
