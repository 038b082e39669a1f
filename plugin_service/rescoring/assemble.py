"""Pure steps from candidates and outcomes to a ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from plugin_service.rescoring.ports import Outcome
from whyrank.ranking import fuse
from whyrank.types import Candidate, RankedHit, Ranking, Status, Verdict


def engine_hits(candidates: Sequence[Candidate], keys: Sequence[str | None]) -> tuple[RankedHit, ...]:
    """Unjudged hits in engine order; `keys` are aligned with the candidates."""
    return tuple(
        RankedHit(
            id=candidate.id,
            index=candidate.index,
            engine_position=position,
            engine_score=candidate.engine_score,
            key=key,
        )
        for position, (candidate, key) in enumerate(zip(candidates, keys, strict=True))
    )


def with_outcome(hit: RankedHit, outcome: Outcome) -> RankedHit:
    """The hit with its verdict, or with the name of its failure."""
    if isinstance(outcome, Verdict):
        return replace(hit, verdict=outcome, failure=None, truncated=outcome.truncated)
    return replace(hit, verdict=None, failure=outcome)


def with_outcomes(hits: Sequence[RankedHit], outcomes: Mapping[str, Outcome]) -> tuple[RankedHit, ...]:
    """All hits with what is known of them, in the same order."""
    return tuple(
        with_outcome(hit, outcomes[hit.key]) if hit.key is not None and hit.key in outcomes else hit for hit in hits
    )


def without_verdicts(ranking: Ranking) -> Ranking:
    """What is stored of a ranking: its verdicts are in the cache under the hits' keys, one copy is enough."""
    return replace(ranking, hits=tuple(replace(hit, verdict=None) for hit in ranking.hits))


def fused(ranking: Ranking, outcomes: Mapping[str, Outcome]) -> Ranking:
    """The ranking with more outcomes, in its newly fused order (same id: the caller decides)."""
    by_engine = sorted(with_outcomes(ranking.hits, outcomes), key=lambda hit: hit.engine_position)
    return replace(ranking, hits=fuse(by_engine, ranking.weights))


def order(ranking: Ranking) -> list[tuple[str, str]]:
    """(index, id) of each hit."""
    return [(hit.index, hit.id) for hit in ranking.hits]


def settled(ranking: Ranking, late: str) -> tuple[Status, str]:
    """Status and reason of a ranking nobody waits for any longer; `late` says what the missing ones missed."""
    failed = [hit for hit in ranking.hits if hit.failure is not None]
    textless = sum(1 for hit in ranking.hits if hit.key is None)
    judged, total = ranking.judged, len(ranking.hits)
    if ranking.missing:
        status = Status.PARTIAL if judged else Status.PENDING
        return status, f"deadline: {judged} of {total} judged {late}"
    if failed:
        kinds = ", ".join(sorted({hit.failure.kind.value for hit in failed if hit.failure}))
        status = Status.PARTIAL if judged else Status.FAILED
        return status, f"unjudgeable: the model failed on {len(failed)} of {total} ({kinds})"
    if textless:
        return Status.COMPLETE, f"no_text: {textless} of {total} have no text in the policy's fields"
    return Status.COMPLETE, "all_judged" if total else "no_hits"
