"""The report: one page that needs nothing but itself, for an admin to read; and the same figures for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2
import msgspec
from markupsafe import Markup

from training.evaluate import plots, words
from training.evaluate.explanations import Judged
from training.evaluate.metrics import PRIMARY, Explanations, Metrics, Role, System
from whyrank.types import Mode, Verdict

TEMPLATES = Path(__file__).parent / "templates"
_SHOWN = 3
_PASSAGE_CHARS = 600


class Example(msgspec.Struct, frozen=True):
    """One answer of the model, as it is shown."""

    kind: str
    collection: str
    query: str
    passage: str
    explanation: str
    label: int
    reference: int
    relevance: float


def write(metrics: Metrics, judged: Sequence[Judged], path: Path) -> None:
    """Write the page, whole or not at all."""
    draft = path.with_name(path.name + ".draft")
    draft.write_text(render(metrics, judged), encoding="utf-8")
    draft.replace(path)


def render(metrics: Metrics, judged: Sequence[Judged]) -> str:
    """The page. Everything that comes from documents or models stands in it as text, never as markup."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        metrics=metrics,
        words=words,
        measures=list(metrics.means[System.ENGINE]),
        primary=PRIMARY,
        plots={name: Markup(svg) for name, svg in _plots(metrics).items()},  # noqa: S704  drawn here, labels escaped
        examples=examples(judged),
    )


def _plots(metrics: Metrics) -> dict[str, str]:
    found = {}
    if metrics.comparisons:
        rows = [(words.name(each), each) for each in metrics.comparisons]
        spoken = "; ".join(f"{label}: {each.difference:+.3f}" for label, each in rows)
        found["comparisons"] = plots.differences(rows, f"Differences over all collections. {spoken}.")
    by_engine = [
        (collection.name, each)
        for collection in metrics.collections
        for each in collection.comparisons
        if (each.system, each.baseline) == (System.ALL, System.ENGINE)
    ]
    if by_engine:
        spoken = "; ".join(f"{label}: {each.difference:+.3f}" for label, each in by_engine)
        found["collections"] = plots.differences(by_engine, f"All three against the engine, by collection. {spoken}.")
    if metrics.choice is not None:
        found["surface"] = plots.surface(metrics.choice)
    curves = [
        (role, answers.calibration)
        for role, model in metrics.models.items()
        if (answers := model.explanations.get(Mode.REASON)) and answers.calibration
    ]
    if curves:
        found["reliability"] = plots.reliability(curves)
    return found


def examples(judged: Sequence[Judged], shown: int = _SHOWN) -> list[Example]:
    """Some answers of each kind: right and well supported, with a quote that is not in the text, and plainly wrong."""
    found: dict[str, list[Example]] = {"good": [], "ungrounded": [], "wrong": []}
    for pair in sorted(judged, key=lambda pair: (pair.collection, pair.query_id, pair.document)):
        verdict = pair.outcome
        if not isinstance(verdict, Verdict):
            continue
        if not verdict.grounded:
            kind = "ungrounded"
        elif verdict.label == pair.reference > 0:
            kind = "good"
        elif abs(verdict.label - pair.reference) == 2:
            kind = "wrong"
        else:
            continue
        if len(found[kind]) < shown and pair.query not in {example.query for example in found[kind]}:
            passage = pair.passage.text[:_PASSAGE_CHARS] + ("…" if len(pair.passage.text) > _PASSAGE_CHARS else "")
            found[kind].append(
                Example(
                    kind,
                    pair.collection,
                    pair.query,
                    passage,
                    verdict.explanation,
                    verdict.label,
                    pair.reference,
                    verdict.relevance,
                )
            )
    return [example for kind in found.values() for example in kind]


def as_text(metrics: Metrics) -> str:
    """The tables in Markdown, for a terminal and for a log of measurements."""
    names = [collection.name for collection in metrics.collections]
    lines = [words.verdict(metrics), words.lm_adds(metrics), ""]
    lines += [f"| {PRIMARY} | {' | '.join(names)} | mean |", "| --- |" + " --- |" * (len(names) + 1)]
    for system, means in metrics.means.items():
        cells = [f"{collection.means[system][PRIMARY]:.3f}" for collection in metrics.collections]
        lines.append(f"| {words.NAMES[system]} | {' | '.join(cells)} | {means[PRIMARY]:.3f} |")
    cells = [f"{collection.ceiling:.3f}" for collection in metrics.collections]
    lines.append(f"| the best order of these candidates | {' | '.join(cells)} | |")
    cells = [str(collection.queries) for collection in metrics.collections]
    lines += [f"| queries | {' | '.join(cells)} | {sum(c.queries for c in metrics.collections)} |", ""]
    lines += ["| comparison | difference | 95% interval | p (Holm) |", "| --- | --- | --- | --- |"]
    for each in metrics.comparisons:
        row = (
            words.name(each),
            f"{each.difference:+.3f}",
            f"{each.low:+.3f} to {each.high:+.3f}",
            f"{each.p_corrected:.4f}",
        )
        lines.append(f"| {' | '.join(row)} |")
    lines.append("")
    for role, model in metrics.models.items():
        weights = model.weights
        lines.append(
            f"{role.value} {model.revision} ({model.base}, adapter {model.adapter}); weights engine "
            f"{weights.engine:.2f}, language model {weights.relevance:.2f}, bi-encoder {weights.similarity:.2f}"
        )
        lines += [_answers(role, mode, model.explanations[mode]) for mode in model.explanations]
    return "\n".join(lines)


def _answers(role: Role, mode: Mode, answers: Explanations) -> str:
    parts = [
        f"{answers.pairs} pairs",
        f"parsed {answers.parse_rate:.1%}",
        f"labels 0/1/2 {'/'.join(map(str, answers.labels))}",
    ]
    if mode is Mode.REASON:
        parts.insert(2, f"quotes verbatim {answers.quotes_verbatim:.1%}, grounded {answers.grounded:.1%}")
    if answers.agreement:
        parts.append(
            f"accuracy {answers.agreement.accuracy:.2f}, weighted kappa {answers.agreement.weighted_kappa:.2f}"
        )
    if answers.calibration:
        parts.append(f"ECE {answers.calibration.ece:.3f}, Brier {answers.calibration.brier:.3f}")
    if answers.consistency:
        parts.append(f"same label in other words {answers.consistency.equal_labels:.1%}")
    return f"{role.value}, {mode.value}: {'; '.join(parts)}"
