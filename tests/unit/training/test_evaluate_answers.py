"""Agreement, calibration, consistency and paraphrases, against values computed by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluate.explanations import agreement, as_label, calibration, consistency, describe, judged_pairs
from training.evaluate.first_stage import Asked, Hit, Sample
from training.evaluate.judging import Pair
from training.evaluate.paraphrases import paraphrases
from whyrank.types import FailureKind, Mode, Passage, Quote, Verdict, VerdictFailure


def verdict(label: int, relevance: float = 0.5, *, quotes: tuple[Quote, ...] = (), grounded: bool = False) -> Verdict:
    probabilities = (1.0 - relevance, 0.0, relevance)
    return Verdict(label, probabilities, relevance, "because", quotes, grounded, Mode.REASON, "r")


def test_agreement_by_hand() -> None:
    # Reference 0 0 1 2, model 0 1 1 0: half alike. By chance: (2*2 + 1*2 + 1*0) / 16 = 0.375
    found = agreement([(0, 0), (0, 1), (1, 1), (2, 0)])
    assert found.accuracy == 0.5
    assert found.kappa == pytest.approx((0.5 - 0.375) / (1 - 0.375))
    # Squared distances: observed 0+1+0+4 = 5; expected over the margins 2,1,1 by 2,2,0 is
    # (0*2*2 + 1*2*2 + 1*1*2 + 0*1*2 + 4*1*2 + 1*1*2) / 4 = 4
    assert found.weighted_kappa == pytest.approx(1 - 5 / 4)
    assert found.confusion == ((1, 1, 0), (0, 1, 0), (1, 0, 0))


@pytest.mark.parametrize(("labels", "kappa"), [([(0, 0), (0, 0)], 1.0), ([(0, 1), (0, 1)], 0.0)])
def test_labels_that_are_all_alike(labels: list[tuple[int, int]], kappa: float) -> None:
    assert agreement(labels).kappa == kappa


def test_calibration_by_hand() -> None:
    found = calibration([0.05, 0.09, 0.85, 1.0], [False, True, True, True], bins=10)
    assert [(b.low, b.high, b.pairs) for b in found.bins] == [(0.0, 0.1, 2), (0.8, 0.9, 1), (0.9, 1.0, 1)]
    assert [b.predicted for b in found.bins] == pytest.approx([0.07, 0.85, 1.0])
    assert [b.observed for b in found.bins] == [0.5, 1.0, 1.0]
    assert found.ece == pytest.approx((2 * 0.43 + 0.15 + 0.0) / 4)
    assert found.brier == pytest.approx((0.05**2 + 0.91**2 + 0.15**2 + 0.0) / 4)


@pytest.mark.parametrize(("highest", "labels"), [(1, [0, 2]), (2, [0, 1, 2]), (3, [0, 1, 2, 2]), (4, [0, 1, 1, 2, 2])])
def test_grades_as_labels(highest: int, labels: list[int]) -> None:
    assert [as_label(grade, highest) for grade in range(highest + 1)] == labels


def passage(text: str) -> Passage:
    return Passage(text)


SAMPLE = Sample(
    "s",
    4,
    (Asked("q", "why", tuple(Hit(id, 1.0, Passage(id)) for id in "abcd")),),
    {"q": {"a": 2, "b": 1, "z": 2}},
    labels={("q", "d"): 1},
)


def test_what_is_known_of_a_judged_pair() -> None:
    said = {Pair("why", Passage(id)).key: verdict(0) for id in "abd"}
    found = judged_pairs([SAMPLE], said)
    # c was not judged; the teacher's label of d stands in for the collection's
    assert [(pair.document, pair.reference) for pair in found] == [("a", 2), ("b", 1), ("d", 1)]


def test_the_figures_of_some_answers() -> None:
    said = {
        Pair("why", Passage("a")).key: verdict(2, 0.9, quotes=(Quote("a", 0, 1),), grounded=True),
        Pair("why", Passage("b")).key: verdict(0, 0.1, quotes=(Quote("x"), Quote("b", 0, 1))),
        Pair("why", Passage("c")).key: VerdictFailure(FailureKind.NO_LABEL),
        Pair("why", Passage("d")).key: verdict(0, 0.0),
    }
    found = describe(Mode.REASON, judged_pairs([SAMPLE], said), None)
    assert (found.pairs, found.parse_rate, found.failures) == (4, 0.75, {"no_label": 1})
    assert (found.quotes, found.quotes_verbatim) == (3, pytest.approx(2 / 3))
    assert found.grounded == pytest.approx(1 / 3)
    assert found.labels == (2, 0, 1)
    assert found.agreement is not None
    assert found.agreement.confusion == ((0, 0, 0), (2, 0, 0), (0, 0, 1))
    assert found.calibration is not None
    assert found.calibration.brier == pytest.approx((0.1**2 + 0.9**2 + 1.0) / 3)


def test_answers_of_nothing_but_failures_have_no_agreement() -> None:
    said = {Pair("why", Passage("a")).key: VerdictFailure(FailureKind.EMPTY)}
    found = describe(Mode.REASON, judged_pairs([SAMPLE], said), None)
    assert (found.parse_rate, found.agreement, found.calibration) == (0.0, None, None)


def test_consistency_by_hand() -> None:
    pair, lower, bare = (Pair(query, passage("p")) for query in ("Why?", "why?", "Why"))
    asked = [(pair, "case", lower), (pair, "punctuation", bare)]
    said = {pair.key: verdict(2, 0.9), lower.key: verdict(2, 0.7), bare.key: verdict(1, 0.5)}
    found = consistency(asked, said)
    assert found is not None
    assert (found.pairs, found.equal_labels) == (2, 0.5)
    assert found.relevance_change == pytest.approx((0.2 + 0.4) / 2)
    assert found.by_paraphrase == {"case": 1.0, "punctuation": 0.0}
    assert consistency(asked, {pair.key: verdict(2)}) is None


def test_paraphrases_of_keywords_and_of_a_question() -> None:
    assert paraphrases("postgres index bloat") == {
        "case": "Postgres index bloat",
        "punctuation": "postgres index bloat?",
        "word order": "bloat index postgres",
        "what is": "what is postgres index bloat",
    }
    assert paraphrases("How do I use C++11's std::move, in x86-64?") == {
        "case": "how do i use c++11's std::move, in x86-64?",
        "punctuation": "How do I use C++11's std::move in x86-64",
        "stop words": "use C++11's std::move, x86-64?",
    }


@settings(deadline=None)
@given(st.text(max_size=60))
def test_paraphrases_differ_from_the_query_and_hold_something(query: str) -> None:
    for form in paraphrases(query).values():
        assert form.strip()
        assert form != " ".join(query.split())
