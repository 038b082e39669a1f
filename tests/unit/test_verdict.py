from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whyrank.types import FailureKind, Mode, Passage, Verdict, VerdictFailure
from whyrank.verdict import MASKED, MAX_EXPLANATION_CHARS, TokenLogprob, parse

PASSAGE = Passage("Set max_wal_size to 2 GB. Then restart the server <div>.", truncated=True)
GOOD = 'The document states "Set max_wal_size to 2 GB".\n\nRelevance Label: 2 ##'


def read(
    text: str, tokens: list[TokenLogprob] | None = None, mode: Mode = Mode.REASON, passage: Passage = PASSAGE
) -> Verdict | VerdictFailure:
    return parse(text, tokens, passage=passage, mode=mode, model_revision="r1")


def verdict(text: str, tokens: list[TokenLogprob] | None = None, mode: Mode = Mode.REASON) -> Verdict:
    outcome = read(text, tokens, mode)
    assert isinstance(outcome, Verdict), outcome
    return outcome


def test_a_good_answer() -> None:
    read_as = verdict(GOOD)
    assert read_as.label == 2
    assert read_as.explanation == 'The document states "Set max_wal_size to 2 GB".'
    assert read_as.grounded
    assert [quote.text for quote in read_as.quotes] == ["Set max_wal_size to 2 GB"]
    assert (read_as.mode, read_as.model_revision, read_as.truncated) == (Mode.REASON, "r1", True)


@pytest.mark.parametrize(
    ("ending", "label"),
    [
        ("Relevance Label: 1", 1),
        ("Relevance Label: 1 ##", 1),
        ("relevance label:1.", 1),
        ("**Relevance Label:** 1", 1),
        ("**Relevance Label**: 1", 1),
        ("Relevance Label: 0\nSo Relevance Label: 1", 1),
        ("Relevance Label: 1 because 2 is too much", 1),
    ],
)
def test_shapes_of_a_label(ending: str, label: int) -> None:
    assert verdict(f"It is so. {ending}").label == label


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", FailureKind.EMPTY),
        (" \n", FailureKind.EMPTY),
        ("It is relevant.", FailureKind.NO_LABEL),
        ("It is relevant. Relevance Label:", FailureKind.NO_LABEL),
        ("It is relevant. Relevance Label: two", FailureKind.NO_LABEL),
        ("It is relevant. Relevance Label: 2nd", FailureKind.NO_LABEL),
        ("It is relevant. 2", FailureKind.NO_LABEL),
        ("It is relevant. Relevance Label: 3", FailureKind.BAD_LABEL),
        ("It is relevant. Relevance Label: 12", FailureKind.BAD_LABEL),
        ("It is relevant. Relevance Label: -1", FailureKind.BAD_LABEL),
        ("It is relevant. Relevance Label: 1.5", FailureKind.BAD_LABEL),
        ("It is relevant. Relevance Label: 2 Relevance Label: 7", FailureKind.BAD_LABEL),
        ("Relevance Label: 2", FailureKind.NO_EXPLANATION),
        (" ## \n...Relevance Label: 2", FailureKind.NO_EXPLANATION),
    ],
)
def test_what_cannot_be_read_is_a_named_failure(text: str, kind: FailureKind) -> None:
    outcome = read(text)
    assert isinstance(outcome, VerdictFailure)
    assert outcome.kind is kind


@pytest.mark.parametrize("text", ["2", " 2 ##", "2.", "**2**", "Relevance Label: 2 ##", "It is. Relevance Label: 2"])
def test_mode_label_has_no_explanation_and_takes_a_bare_digit(text: str) -> None:
    text = text.replace(" ##", "")
    read_as = verdict(text, mode=Mode.LABEL)
    assert (read_as.label, read_as.explanation, read_as.quotes, read_as.grounded) == (2, "", (), False)


@pytest.mark.parametrize(("text", "kind"), [("2 or 1", FailureKind.NO_LABEL), ("5", FailureKind.BAD_LABEL)])
def test_mode_label_takes_nothing_vague(text: str, kind: FailureKind) -> None:
    outcome = read(text, mode=Mode.LABEL)
    assert isinstance(outcome, VerdictFailure)
    assert outcome.kind is kind


def test_probabilities_are_those_of_the_labels_own_token() -> None:
    text = "Page 2 of 10 says 1. Relevance Label: 1"
    tokens = [
        TokenLogprob("Page", {"Page": -0.1}),
        TokenLogprob(" 2", {" 2": -0.1, " 0": -2.0}),
        TokenLogprob(" of 1", {}),
        TokenLogprob("0", {"0": -0.1, "2": -3.0}),
        TokenLogprob(" says 1.", {"1": 0.0}),
        TokenLogprob(" Relevance", {}),
        TokenLogprob(" Label:", {}),
        TokenLogprob(" ", {" ": 0.0}),
        TokenLogprob("1", {"0": math.log(0.1), "1": math.log(0.5), "2": math.log(0.2), "x": math.log(0.2)}),
        TokenLogprob(" ##", {"2": 0.0}),
    ]
    read_as = verdict(text, tokens)
    assert read_as.label_probabilities == pytest.approx((1 / 8, 5 / 8, 2 / 8))
    assert read_as.relevance == pytest.approx((5 / 8 + 2 * 2 / 8) / 2)


@pytest.mark.parametrize("pieces", [["2"], [" ", "2"], [" 2"], [": 2"], [" 2 ##"], ["Label: 2"]])
def test_tokens_may_part_the_label_from_its_marker_anywhere(pieces: list[str]) -> None:
    marker = "It is. Relevance Label: 2"
    own = pieces[-1]
    before = marker.removesuffix("".join(pieces).removesuffix(" ##"))
    tokens = [TokenLogprob(piece, {piece: 0.0}) for piece in [*before, *pieces[:-1]]]
    tokens.append(TokenLogprob(own, {own: math.log(0.6), own.replace("2", "0"): math.log(0.2)}))
    assert verdict(marker, tokens).label_probabilities == pytest.approx((0.25, 0.0, 0.75))


def test_spellings_of_one_label_are_summed() -> None:
    tokens = [TokenLogprob("2", {"2": math.log(0.3), " 2": math.log(0.3), "1": math.log(0.2), "12": math.log(0.1)})]
    assert verdict("2", tokens, Mode.LABEL).label_probabilities == pytest.approx((0.0, 0.25, 0.75))


def test_masked_tokens_have_no_probability() -> None:
    tokens = [TokenLogprob("2", {"2": 0.0, "1": MASKED, "0": -math.inf})]
    assert verdict("2", tokens, Mode.LABEL).label_probabilities == (0.0, 0.0, 1.0)
    all_masked = [TokenLogprob("1", dict.fromkeys("012", MASKED))]
    assert verdict("1", all_masked, Mode.LABEL).label_probabilities == (0.0, 1.0, 0.0)


@pytest.mark.parametrize("tokens", [None, [], [TokenLogprob("2", {})], [TokenLogprob("other text", {"1": 0.0})]])
def test_without_probabilities_the_label_is_certain(tokens: list[TokenLogprob] | None) -> None:
    read_as = verdict("2", tokens, Mode.LABEL)
    assert (read_as.label_probabilities, read_as.relevance) == ((0.0, 0.0, 1.0), 1.0)


def test_tokens_may_hold_parts_of_characters() -> None:
    tokens = [TokenLogprob(t, {}) for t in ["It is \ufffd", "\ufffd.", " Relevance Label:", " "]]
    tokens.append(TokenLogprob("2", {"2": math.log(0.5), "1": math.log(0.5)}))
    assert verdict("It is é. Relevance Label: 2", tokens).label_probabilities == pytest.approx((0, 0.5, 0.5))


def test_the_text_may_have_been_stripped_and_stopped() -> None:
    tokens = [TokenLogprob(t, {t: 0.0}) for t in ["\n", "It is.", " Relevance Label: "]]
    tokens += [TokenLogprob("1", {"1": math.log(0.5), "0": math.log(0.5)}), TokenLogprob(" ##", {"2": 0.0})]
    assert verdict("It is. Relevance Label: 1", tokens).label_probabilities == pytest.approx((0.5, 0.5, 0))


@pytest.mark.parametrize(
    ("explanation", "grounded"),
    [
        ('It states "restart the server" and "max_wal_size to 2".', True),
        ('It states "restart the server" and "delete the server".', False),
        ("It states that the server restarts.", False),
        ('It speaks of "wal" and states "RESTART  the server".', True),
    ],
)
def test_grounded_means_that_all_quotes_stand_in_the_passage(explanation: str, grounded: bool) -> None:
    assert verdict(f"{explanation} Relevance Label: 1").grounded is grounded


def test_the_explanation_is_plain_bounded_text_in_the_documents_spelling() -> None:
    read_as = verdict("## One\x00\u202e  line \u02c2div>\n\n\nand  more\tRelevance Label: 1")
    assert read_as.explanation == "One line <div>\nand more"
    long = verdict("word " * 10_000 + "Relevance Label: 1").explanation
    assert len(long) <= MAX_EXPLANATION_CHARS
    assert long.endswith("…")


BITS = st.sampled_from(
    [
        "Relevance Label:",
        " ",
        "2",
        "0",
        "1",
        "7",
        "##",
        '"',
        "“",
        "Set max_wal_size",
        "\n",
        "\ud800",
        "\x00",
        "**",
        "é",
        "-",
        ".",
    ]
)
TEXT = st.lists(BITS | st.text(max_size=8), max_size=12).map("".join)
TOKENS = st.lists(
    st.builds(TokenLogprob, token=TEXT, top=st.dictionaries(TEXT | st.sampled_from("012"), st.floats(), max_size=5)),
    max_size=8,
)


@given(TEXT, st.none() | TOKENS, TEXT, st.sampled_from(Mode), st.booleans())
def test_any_answer_gives_a_verdict_or_a_named_failure(
    text: str, tokens: list[TokenLogprob] | None, passage: str, mode: Mode, follow: bool
) -> None:
    if follow and tokens is not None:
        tokens = [TokenLogprob(char, tokens[0].top if tokens else {}) for char in text]
    outcome = read(text, tokens, mode, Passage(passage))
    assert msgspec.json.decode(msgspec.json.encode(outcome), type=type(outcome)) == outcome
    if isinstance(outcome, VerdictFailure):
        return
    assert str(outcome.label) in text
    assert all(0.0 <= p <= 1.0 for p in outcome.label_probabilities)
    assert sum(outcome.label_probabilities) == pytest.approx(1.0)
    assert 0.0 <= outcome.relevance <= 1.0
    assert bool(outcome.explanation) is (mode is Mode.REASON)
    assert outcome.grounded is (bool(outcome.quotes) and all(q.grounded for q in outcome.quotes))


@given(st.tuples(*[st.floats(-20, 0)] * 3), st.integers(0, 2), TEXT)
def test_the_probabilities_are_the_tokens_whatever_the_explanation_says(
    logprobs: tuple[float, float, float], label: int, explanation: str
) -> None:
    text = f"{explanation} so. Relevance Label: {label}"
    tokens = [TokenLogprob(char, {"0": 0.0}) for char in text[:-1]]
    tokens.append(TokenLogprob(str(label), {str(i): logprob for i, logprob in enumerate(logprobs)}))
    total = sum(map(math.exp, logprobs))
    expected = tuple(math.exp(logprob) / total for logprob in logprobs)
    assert verdict(text, tokens).label_probabilities == pytest.approx(expected)
