# ruff: noqa: RUF001 (look-alike characters are what these tests are about)
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whyrank.folding import fold, visible
from whyrank.grounding import find, ground, is_evidence, quotes

PASSAGE = "WAL files are kept.\n\nSet  max_wal_size to “1 GB” – the default. Die Straße heißt İstanbul."


@pytest.mark.parametrize(
    ("explanation", "expected"),
    [
        ('It says "a b c" here.', ["a b c"]),
        ("It says “a b c” and «d e» and „f g“ and 「量子」.", ["a b c", "d e", "f g", "量子"]),
        ("He said “she said 'no way' twice” then.", ["she said 'no way' twice"]),
        ("The users' guide doesn't say 'set the size' anywhere.", ["set the size"]),
        ("It’s the user’s, ‘don’t touch it’, they say", ["don’t touch it"]),
        ('An unclosed "quote is no quote', []),
        ('""', []),
        ("", []),
    ],
)
def test_quotes_are_found_with_their_marks_paired(explanation: str, expected: list[str]) -> None:
    assert quotes(explanation) == expected


@pytest.mark.parametrize(
    ("quote", "stands_as"),
    [
        ("WAL files are kept", "WAL files are kept"),
        ("wal FILES are kept", "WAL files are kept"),
        ("kept. Set max_wal_size", "kept.\n\nSet  max_wal_size"),
        ('to "1 GB" - the default', "to “1 GB” – the default"),
        ("die strasse HEISST", "Die Straße heißt"),
        ("heißt i̇stanbul", "heißt İstanbul"),
        ("Straße heißt İstanbul", "Straße heißt İstanbul"),
        ("files are kept...", "files are kept"),
        ("ﬁles are kept", "files are kept"),
        ("files are not kept", None),
        ("", None),
    ],
)
def test_a_quote_is_found_in_the_passages_own_spelling(quote: str, stands_as: str | None) -> None:
    span = find(quote, PASSAGE)
    assert (PASSAGE[slice(*span)] if span else None) == stands_as


def test_offsets_hold_after_characters_whose_folding_is_longer() -> None:
    passage = "ẞẞẞ ﬃ İİ the End of it"
    assert find("THE END OF", passage) == (passage.index("the"), passage.index("the") + len("the End of"))


def test_a_quote_with_words_left_out_is_taken_as_its_parts() -> None:
    explanation = 'It says "WAL files are kept … Set max_wal_size".'
    assert [q.text for q in ground(explanation, PASSAGE)] == ["WAL files are kept", "Set  max_wal_size"]


def test_a_passages_own_ellipsis_is_part_of_the_quote() -> None:
    assert [q.text for q in ground('"one two … three four"', "zero one two … three four")] == ["one two … three four"]


def test_quotes_not_in_the_passage_are_kept_as_ungrounded() -> None:
    (quote,) = ground('The document states "no such words".', PASSAGE)
    assert (quote.text, quote.start, quote.end, quote.grounded) == ("no such words", None, None, False)


def test_a_single_term_in_quotes_is_no_evidence() -> None:
    assert ground('The term "WAL" and the term "banana".', PASSAGE) == ()
    assert is_evidence("two words")
    assert is_evidence("量子计算机")
    assert not is_evidence("量子")


def test_the_number_of_quotes_is_bounded() -> None:
    assert len(ground('"WAL files" ' * 1000, PASSAGE)) == 16


FRAGMENTS = st.sampled_from(
    ["ß", "İ", "ı", "ﬃ", "é", "e\u0301", "  ", "\n", "\u200b", "“", "’", "—", "#", "##", "Ж", "量"]
)
TEXT = st.lists(st.text(max_size=8) | FRAGMENTS, max_size=12).map("".join)


@given(TEXT, st.data())
def test_any_stretch_of_a_passage_is_found_however_its_case_and_spaces_were_changed(
    passage: str, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(passage)))
    stretch = passage[start : data.draw(st.integers(start, len(passage)))]
    change = data.draw(st.sampled_from([str.upper, str.lower, str.swapcase, str.casefold, str.title]))
    # Letter by letter: on whole words Python's lower case knows a final sigma
    mangled = "".join(
        data.draw(st.sampled_from([" ", "\n ", "\t\t"])) if char.isspace() else change(char) for char in stretch
    )
    if not fold(mangled.strip(" \t\n\r.,;:!?…'\"-")).text.strip():
        return
    span = find(mangled, passage)
    assert span is not None
    assert 0 <= span[0] < span[1] <= len(passage)
    # A stretch may begin or end inside of what folds together (a run of spaces, a letter and its accent)
    assert fold(mangled).text.strip(" .,;:!?'\"-") in fold(passage[slice(*span)]).text


@given(TEXT, TEXT)
def test_grounding_is_total_and_its_offsets_are_true(explanation: str, passage: str) -> None:
    for quote in ground(explanation, passage):
        if quote.grounded:
            assert quote.start is not None
            assert passage[quote.start : quote.end] == quote.text != ""


@given(TEXT)
def test_folding_is_idempotent_and_blind_to_case(text: str) -> None:
    folded = fold(text).text
    assert fold(folded).text == folded
    assert fold("".join(map(str.upper, text))).text == folded
    assert len(fold(text).offsets) == len(folded)
    assert fold(visible(text)).text == folded
