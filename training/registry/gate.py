"""The promotion gate: whether an evaluation shows a model that is better, and no worse in what people read."""

from __future__ import annotations

import msgspec

from training.evaluate.metrics import PRIMARY, Comparison, Explanations, Metrics, Model, Role, System
from training.registry.config import PromoteConfig
from whyrank.types import Mode


class Check(msgspec.Struct, frozen=True):
    """One thing that was asked of the candidate, and whether it was found."""

    passed: bool
    words: str
    """For a person to read, with the figures."""


class Decision(msgspec.Struct, frozen=True):
    """Accepted only when every check passed."""

    checks: tuple[Check, ...]

    @property
    def accepted(self) -> bool:
        """Whether nothing speaks against the candidate."""
        return all(check.passed for check in self.checks)

    @property
    def reasons(self) -> list[str]:
        """All that speaks against it."""
        return [check.words for check in self.checks if not check.passed]


def decide(metrics: Metrics, bounds: PromoteConfig, current: str | None) -> Decision:
    """Judge an evaluation of the candidate against the model `current`, the version that is to serve now.

    An evaluation made beside another model than the current one is refused: what it says is out of date.
    """
    candidate, incumbent = metrics.models.get(Role.CANDIDATE), metrics.models.get(Role.CURRENT)
    if candidate is None:
        return Decision((Check(False, "the evaluation has no candidate"),))
    checks = [_same_current(incumbent, current), *_ranking(metrics, bounds, incumbent)]
    for mode in candidate.explanations:
        theirs = incumbent.explanations.get(mode) if incumbent is not None else None
        checks += _explanations(candidate.explanations[mode], theirs, bounds)
    if Mode.REASON not in candidate.explanations:
        checks.append(Check(False, "its explanations were not evaluated"))
    return Decision(tuple(checks))


def _same_current(incumbent: Model | None, current: str | None) -> Check:
    if incumbent is None:
        known = current is None
        return Check(known, "there is no current model" if known else f"it was not compared with the current {current}")
    if incumbent.name != current:
        return Check(False, f"it was compared with {incumbent.name}, but {current} is current now: evaluate it again")
    return Check(True, f"compared with the current {current}")


def _ranking(metrics: Metrics, bounds: PromoteConfig, incumbent: Model | None) -> list[Check]:
    baseline = System.CURRENT_ALL if incumbent is not None else System.ENGINE
    whose = "the current model" if incumbent is not None else "the engine's order"
    found = metrics.comparison(System.ALL, baseline)
    if found is None:
        return [Check(False, f"{PRIMARY} was not compared with {whose}")]
    checks = [
        Check(found.low > 0, f"{PRIMARY} {_against(found, whose)}"),
        Check(
            found.queries >= bounds.min_queries,
            f"the comparison rests on {found.queries} judged queries; {bounds.min_queries} are asked for",
        ),
    ]
    engine = metrics.comparison(System.ALL, System.ENGINE)
    if incumbent is not None and engine is not None:
        level = engine.difference >= -bounds.engine_tolerance
        checks.append(Check(level, f"{PRIMARY} {_against(engine, 'the engine')}"))
    return checks


def _against(found: Comparison, whose: str) -> str:
    how = "better" if found.low > 0 else "worse" if found.high < 0 else "not surely better"
    return (
        f"{found.mean:.3f} is {how} than {found.baseline_mean:.3f} of {whose}: "
        f"{found.difference:+.3f}, 95% interval {found.low:+.3f} to {found.high:+.3f}, {found.queries} queries"
    )


def _explanations(ours: Explanations, theirs: Explanations | None, bounds: PromoteConfig) -> list[Check]:
    mode = f"mode {ours.mode.value}"
    tolerance = bounds.share_tolerance
    checks = [
        _floor(
            f"{mode}: answers that can be read",
            ours.parse_rate,
            theirs.parse_rate if theirs else None,
            bounds.parse_floor,
            tolerance,
        )
    ]
    if ours.mode is Mode.REASON:
        checks.append(
            _floor(
                f"{mode}: quotes that stand in the document",
                ours.quotes_verbatim,
                theirs.quotes_verbatim if theirs else None,
                bounds.verbatim_floor,
                tolerance,
            )
        )
    if theirs is None:
        return checks
    if ours.agreement is not None and theirs.agreement is not None:
        found, before = ours.agreement.weighted_kappa, theirs.agreement.weighted_kappa
        what = f"{mode}: agreement with the judgements (weighted kappa)"
        checks.append(_no_loss(what, found, before, bounds.agreement_tolerance))
    elif theirs.agreement is not None:
        checks.append(Check(False, f"{mode}: the labels' agreement was not measured, as it was for the current model"))
    if ours.consistency is not None and theirs.consistency is not None:
        found, before = ours.consistency.equal_labels, theirs.consistency.equal_labels
        what = f"{mode}: labels that stay when the query is put in other words"
        checks.append(_no_loss(what, found, before, bounds.consistency_tolerance))
    elif theirs.consistency is not None:
        checks.append(Check(False, f"{mode}: consistency was not measured, as it was for the current model"))
    return checks


def _floor(what: str, found: float, before: float | None, floor: float, tolerance: float) -> Check:
    """Not below the floor, or not below a current model that is below it itself."""
    needed = floor if before is None else min(floor, before - tolerance)
    told = f"{what}: {found:.1%}, at least {needed:.1%} is asked for"
    return Check(found >= needed, told if before is None else f"{told} (current {before:.1%})")


def _no_loss(what: str, found: float, before: float, tolerance: float) -> Check:
    words = f"{what}: {found:.3f}, the current model has {before:.3f} and {tolerance:.3f} may be lost"
    return Check(found >= before - tolerance, words)
