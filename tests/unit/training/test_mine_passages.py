"""Pages cut into passages: nothing lost, nothing too long, cuts where they belong."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.training.mined import paragraph
from training.mine.passages import cut, passage, piece_at
from whyrank.passages import estimate_tokens

LINES = st.lists(
    st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=300), max_size=30
)


@given(st.text(max_size=60), LINES, st.integers(64, 300), st.randoms())
@example("t", ["x" * 5000, "日本語" * 300, "a. " * 900], 64, None)
def test_pieces_hold_all_the_text_in_order_and_each_fits(title: str, lines: list[str], budget: int, random) -> None:  # type: ignore[no-untyped-def]
    headings = random.sample(lines, len(lines) // 3) if random else []
    pieces = cut(title, "\n".join(lines), headings, budget)
    assert "".join("".join(piece.text for piece in pieces).split()) == "".join("".join(lines).split())
    for piece in pieces:
        assert piece.text.strip()
        found = passage(title, piece.text, budget)
        assert estimate_tokens(found.text) <= budget
        if estimate_tokens(title) + 1 <= budget // 4:
            assert not found.truncated
    assert [piece.line for piece in pieces] == sorted(piece.line for piece in pieces)
    for number, line in enumerate(lines):
        if line.strip() and pieces:
            at = piece_at(pieces, number)
            assert line.strip()[0] in pieces[max(0, at - 1)].text + pieces[at].text


def test_sections_are_passages_and_small_ones_are_joined() -> None:
    body = "\n".join(
        ["Title", "One", paragraph(1, 7), "Two", paragraph(2, 7), "Three", "tiny", "Four", "tiny too", "Five", "small"]
    )
    pieces = cut("Title", body, ["Title", "One", "Two", "Three", "Four", "Five"], 256)
    assert [piece.headings for piece in pieces] == [("Title", "One"), ("Two",), ("Three", "Four", "Five")]
    assert [piece.text.split("\n")[0] for piece in pieces] == ["Title", "Two", "Three"]
    assert [piece.under for piece in pieces] == ["Title", "Two", "Three"]


def test_a_long_section_is_cut_between_blocks_into_equal_parts() -> None:
    blocks = [paragraph(number, 2) for number in range(12)]
    pieces = cut("T", "\n".join(["Intro", "short", "Head", *blocks]), ["Intro", "Head"], 200)
    head = [piece for piece in pieces if piece.under == "Head"]
    assert [line for piece in head for line in piece.text.split("\n")] == ["Head", *blocks]
    assert [piece.headings for piece in head] == [("Head",), *[()] * (len(head) - 1)]
    sizes = [len(piece.text.split("\n")) for piece in head]
    assert max(sizes) - min(sizes) <= 2


def test_a_table_of_contents_is_no_section() -> None:
    body = "\n".join(["Top", "Alpha", "Beta", "Alpha", paragraph(1, 7), "Beta", paragraph(2, 7)])
    pieces = cut("Top", body, ["Top", "Alpha", "Beta"], 256)
    assert [piece.headings for piece in pieces] == [("Top", "Alpha"), ("Beta",)]
    assert pieces[0].text.startswith("Top\nAlpha\nBeta\nAlpha\n")


def test_headings_that_are_not_in_the_body_are_passed_over() -> None:
    assert [p.headings for p in cut("T", "One\ntext", ["Gone", "One", "Gone too"], 256)] == [("One",)]
    assert cut("T", "", ["One"], 256) == []


def test_words_of_a_passage_are_about_those_of_a_paragraph() -> None:
    english = "The configuration file is read once at startup, and again whenever the server is told to reload it. "
    pieces = cut("Configuration", "\n".join([english * 3] * 20), [], 256)
    assert all(100 <= len(piece.text.split()) <= 190 for piece in pieces)


def test_a_piece_is_found_by_its_line() -> None:
    pieces = cut("T", "\n".join(["A", paragraph(1, 7), "B", paragraph(2, 7)]), ["A", "B"], 256)
    assert [piece_at(pieces, line) for line in range(4)] == [0, 0, 1, 1]
    assert piece_at(pieces, 99) == 1


def test_a_passage_is_what_serving_would_show() -> None:
    assert passage("Title", "body\nmore", 64).text == "Title\nbody\nmore"
    assert passage("", "body", 64).text == "body"
    cut_short = passage("Title", "word " * 500, 64)
    assert cut_short.truncated
    assert cut_short.text.startswith("Title\nword")
