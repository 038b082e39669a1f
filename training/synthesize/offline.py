"""The teacher of machines without one: graded soft labels from bi-encoders, best sentences as evidence.

Encoding is the cost; everything after it is arithmetic. Each text is encoded once and kept (vectors.py), so a run
that was killed goes on where it was, and another configuration judges the same groups again in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from training.records import Group, GroupPassage, Judgement, Role, file_hash
from training.stages import Progress, config_hash
from training.synthesize import primer, soft_labels, wording
from training.synthesize.checks import Rejection, checked
from training.synthesize.config import EMBEDDED, OfflineConfig
from training.synthesize.soft_labels import DECIMALS, Array
from training.synthesize.vectors import Encoder, VectorStore
from whyrank.bi_encoder import BiEncoder
from whyrank.embedded import bi_encoder
from whyrank.embedded.cache import Cache
from whyrank.errors import BadRequestError
from whyrank.grounding import is_evidence
from whyrank.prompt import PROMPT_VERSION, Constraint, answer, quotable
from whyrank.types import Mode

_VERSION = 2
"""Of the way from similarities to judgements: a change of it is another teacher."""


class LoadedEncoder(NamedTuple):
    """An encoder and the hash of its weights."""

    encoder: Encoder
    revision: str


class Judged(NamedTuple):
    """What the teacher says on some groups."""

    judgements: list[Judgement]
    rejections: list[Rejection]
    primer_groups: list[Group]
    primer_judgements: list[Judgement]
    figures: dict[str, Any]


def load_encoders(config: OfflineConfig, progress: Progress) -> list[LoadedEncoder]:
    """The configured encoders. Raises BadRequestError for a folder that holds none, DownloadError."""
    loaded = []
    for name in config.encoders:
        folder = bi_encoder.install(Cache(), progress) if name == EMBEDDED else Path(name).expanduser()
        encoder = BiEncoder(folder, config.threads)
        loaded.append(LoadedEncoder(encoder, file_hash(folder / "model.onnx")[:8]))
    return loaded


class OfflineTeacher:
    """Judges groups by similarity. `folder` keeps the vectors. Raises BadRequestError for shares that are none."""

    def __init__(self, encoders: Sequence[LoadedEncoder], config: OfflineConfig, folder: Path) -> None:
        if min(config.shares) < 0.0 or not math.isclose(sum(config.shares), 1.0, abs_tol=1e-6):
            raise BadRequestError("synthesize.offline.shares", f"{config.shares} are not three shares of 1")
        self._config = config
        self._passages: list[VectorStore] = []
        self._queries: list[VectorStore] = []
        for encoder, revision in encoders:
            home = folder / "vectors" / f"{encoder.name}-{revision}"
            self._passages.append(VectorStore(home / "passages", encoder.passages))
            self._queries.append(VectorStore(home / "queries", encoder.queries))
        # By their weights, wherever they are kept
        judging = msgspec.structs.replace(config, encoders=tuple(e.revision for e in encoders), threads=None)
        identity = f"{_VERSION} {config_hash(judging)} {wording.WORDING_VERSION} {PROMPT_VERSION}"
        names = "+".join(loaded.encoder.name for loaded in encoders)
        self.name = f"offline/{names}@{sha256(identity.encode()).hexdigest()[:8]}"

    def judge(self, groups: Sequence[Group], progress: Progress) -> Judged:
        """Judge every passage of the groups; the labels have their configured shares over all of them together."""
        config = self._config
        encoded = self._encode(groups, progress)
        scores = self._scores(groups)
        cuts = soft_labels.cut_points(np.concatenate([*scores, np.zeros(0)]), config.shares)
        sentences = [[self._sentences(group.query, p) for p in group.passages] for group in groups]
        every = (text for group in sentences for own in group for text in own)
        encoded["sentences"] = self._passages[0].add(every, progress, "encoding sentences")
        figures = {"cut_points": [round(cut, 4) for cut in cuts], "encoded": encoded}
        judged = Judged([], [], *self._primer(groups, sentences), figures)
        for group, own, choices in zip(groups, scores, sentences, strict=True):
            soft = soft_labels.probabilities(own, cuts, config.temperature)
            hard = soft_labels.labels(own, cuts)
            for row, passage in enumerate(group.passages):
                best = self._best_first(group.query, choices[row])
                made = self._judgement(group, passage, int(hard[row]), soft[row], best)
                if isinstance(made, Judgement):
                    judged.judgements.append(made)
                else:
                    judged.rejections.append(made)
        return judged

    def _primer(
        self, groups: Sequence[Group], sentences: Sequence[Sequence[Sequence[str]]]
    ) -> tuple[list[Group], list[Judgement]]:
        """The groups of single sentences, by the first encoder."""
        if not self._config.primer_groups or not groups:
            return [], []
        of_groups = {
            group.id: [text for own in rows for text in own] for group, rows in zip(groups, sentences, strict=True)
        }
        texts = sorted({text for own in of_groups.values() for text in own})
        vectors = dict(zip(texts, self._passages[0].of(texts).astype(np.float64), strict=True)) if texts else {}
        queries = self._queries[0].of([group.query for group in groups])
        return primer.build(groups, queries, primer.Sentences(of_groups, vectors), self._config, self.name)

    def _encode(self, groups: Sequence[Group], progress: Progress) -> dict[str, int]:
        """See to the vectors of all passages and queries; how many were computed now."""
        passages = [passage.text for group in groups for passage in group.passages]
        queries = [group.query for group in groups]
        return {
            "passages": sum(store.add(passages, progress, "encoding passages") for store in self._passages),
            "queries": sum(store.add(queries, progress, "encoding queries") for store in self._queries),
        }

    def _scores(self, groups: Sequence[Group]) -> list[Array]:
        """Each group's scores, in the order of its passages: the mean of the encoders', blended with the engine's."""
        config = self._config
        standings = [
            soft_labels.standing(
                [
                    (passages.of([p.text for p in group.passages]) @ queries.of([group.query])[0]).astype(np.float64)
                    for group in groups
                ],
                config.relative_weight,
            )
            for passages, queries in zip(self._passages, self._queries, strict=True)
        ]
        similar = [np.mean(of_each_encoder, axis=0) for of_each_encoder in zip(*standings, strict=True)]
        weight = config.engine_weight
        blended = [
            (1.0 - weight) * own + weight * soft_labels.engine_standing(group) if weight else own
            for group, own in zip(groups, similar, strict=True)
        ]
        return [
            own + config.positive_weight * np.array([passage.role is Role.POSITIVE for passage in group.passages])
            for group, own in zip(groups, blended, strict=True)
        ]

    def _sentences(self, query: str, passage: GroupPassage) -> list[str]:
        """What of the passage may be quoted and is worth encoding, in its order."""
        choices = [choice for choice in quotable(passage.passage(), query) if is_evidence(choice)]
        if len(choices) <= self._config.sentences:
            return choices
        asked = wording.stems(query)
        return sorted(choices, key=lambda choice: -len(asked & wording.stems(choice)))[: self._config.sentences]

    def _best_first(self, query: str, sentences: Sequence[str]) -> list[str]:
        """The sentences, those nearest to the query first."""
        if len(sentences) < 2:
            return list(sentences)
        near = self._passages[0].of(sentences) @ self._queries[0].of([query])[0]
        return [sentences[i] for i in np.argsort(-near, kind="stable")]

    def _judgement(
        self, group: Group, passage: GroupPassage, label: int, chances: Array, sentences: Sequence[str]
    ) -> Judgement | Rejection:
        """The first explanation that stands the checks; a sentence that cannot be grounded gives way to the next."""
        terms = wording.terms(group.query, passage.text)
        text, why = "", "unquoted"
        for quotes in _picks(sentences, self._config.quotes if label else 1):
            explanation = wording.explain(label, quotes, terms)
            text = answer(explanation, None, label, Mode.REASON, Constraint.NONE)
            verdict = checked(text, passage, self.name)
            if isinstance(verdict, str):
                why = verdict
                continue
            p0, p1, p2 = (float(chance) for chance in chances)
            return Judgement(
                group=group.id,
                passage=passage.id,
                teacher=self.name,
                label=label,
                probabilities=(p0, p1, p2),
                relevance=round((p1 + 2.0 * p2) / 2.0, DECIMALS),
                explanation=explanation,
                quotes=tuple(quote.text for quote in verdict.quotes),
            )
        return Rejection(group.id, passage.id, self.name, why, text, attempts=1)


def _picks(sentences: Sequence[str], quotes: int) -> Iterator[Sequence[str]]:
    """What to quote, best first, at last nothing: that is enough for label 0."""
    for start in range(len(sentences)):
        yield sentences[start : start + quotes]
    yield ()
