"""Fragments without a highlighter: the stretches of a long text that hold the query's words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugin_service.rescoring.word_fragments import MOST_CHARS, WordFragments, best_stretches, query_terms
from whyrank.passages import content_hash, estimate_tokens, fit
from whyrank.types import Candidate, Fragment

FILLER = "Nothing of the matter is said in this sentence. "


def candidate(text: str) -> Candidate:
    fields = (Fragment("body", text),)
    return Candidate("1", "docs", fields, content_hash(fields))


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("sorting lists", "You sort a list by its method."),
        ("Größe ändern", "Die GRÖSSE wird geändert, indem man zieht."),
        ("サーバーの設定", "このサーバーを設定します。"),
        ("การติดตั้ง", "วิธีติดตั้งโปรแกรม"),
        ("error 0x80070057", "It ends with 0x80070057."),
    ],
)
def test_the_stretch_with_the_querys_words_is_found(query: str, sentence: str) -> None:
    text = FILLER * 40 + sentence + " " + FILLER * 40
    best, *_ = best_stretches(query_terms(query), text, 100, 3)
    assert sentence.strip() in best


def test_rare_words_weigh_more_than_common_ones() -> None:
    text = ("A list is a list of items. " * 4 + "\n") * 10 + "The mutex of a list.\n" + "A list again. " * 30
    best, *_ = best_stretches(query_terms("list mutex"), text, 60, 1)
    assert "mutex" in best


def test_a_text_without_the_words_gives_nothing() -> None:
    assert best_stretches(query_terms("absent"), FILLER * 50, 100, 3) == []
    assert best_stretches(query_terms("..."), FILLER * 50, 100, 3) == []


def test_no_more_than_asked_for_best_first() -> None:
    text = FILLER * 10 + "alpha. " + FILLER * 10 + "alpha and beta. " + FILLER * 10
    first, second = best_stretches(query_terms("alpha beta"), text, 80, 2)
    assert "beta" in first
    assert "beta" not in second
    assert len(best_stretches(query_terms("alpha beta"), text, 80, 1)) == 1


def test_a_text_beyond_all_bounds_is_searched_in_part() -> None:
    text = "x " * (MOST_CHARS // 2) + "needle"
    assert best_stretches(query_terms("needle"), text, 100, 3) == []


@given(text=st.text(max_size=400), query=st.text(max_size=20), chars=st.integers(1, 60))
def test_every_stretch_is_the_texts_own_and_none_is_longer_than_asked(text: str, query: str, chars: int) -> None:
    for stretch in best_stretches(query_terms(query), text, chars, 5):
        assert stretch in text
        assert len(stretch) <= chars


async def test_a_passage_made_with_them_holds_what_the_head_does_not() -> None:
    long = candidate(FILLER * 60 + "The answer is forty-two. " + FILLER * 60)
    found = await WordFragments().fragments("what is the answer", [long], ("body",), 100, 2)
    passage = fit(long, 64, found["docs", "1"])
    assert "forty-two" in passage.text
    assert "forty-two" not in fit(long, 64, None).text
    assert estimate_tokens(passage.text) <= 64


async def test_only_the_fields_asked_for_are_searched() -> None:
    fields = (Fragment("title", "an answer"), Fragment("body", "another answer"))
    both = Candidate("1", "docs", fields, content_hash(fields))
    found = await WordFragments().fragments("answer", [both], ("body",), 100, 2)
    assert found == {("docs", "1"): {"body": ["another answer"]}}
