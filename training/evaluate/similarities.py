"""Cosines of queries and passages by the bi-encoder, each computed once and kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from training import records
from training.evaluate.first_stage import Sample
from training.evaluate.judging import Pair, PairKey
from training.progress import counting
from whyrank.bi_encoder import BiEncoder
from whyrank.embedded.cache import Progress


class _Kept(msgspec.Struct, frozen=True):
    query: str
    passage: str
    similarity: float
    version: int = records.RECORDS_VERSION


class Similarities:
    """All cosines of one bi-encoder that were ever asked for, in one file that only grows."""

    def __init__(self, folder: Path, encoder: BiEncoder) -> None:
        self._encoder = encoder
        self._path = folder / f"{encoder.name}.jsonl"
        self._known: dict[PairKey, float] = {}
        if self._path.exists():
            with records.append(self._path):
                """Drops a line that a killed run left unfinished, before it is read."""
            for kept in records.read(self._path, _Kept, verify=False):
                self._known[kept.query, kept.passage] = kept.similarity

    @property
    def known(self) -> Mapping[PairKey, float]:
        """In [-1, 1]."""
        return self._known

    def compute(self, samples: Iterable[Sample], progress: Progress) -> None:
        """The cosine of every candidate with its query."""
        missing = []
        for sample in samples:
            for query in sample.queries:
                pairs = {pair.key: pair for hit in query.hits if (pair := Pair(query.text, hit.passage))}
                if unknown := {key: pair for key, pair in pairs.items() if key not in self._known}:
                    missing.append((query.text, unknown))
        if not missing:
            return
        total = sum(len(pairs) for _, pairs in missing)
        with records.append(self._path) as keep, counting("similarities", total, progress, unit="pairs") as counter:
            for text, pairs in missing:
                (query,) = self._encoder.queries([text])
                passages = self._encoder.passages([pair.passage.text for pair in pairs.values()])
                for key, cosine in zip(pairs, passages @ query, strict=True):
                    self._known[key] = float(cosine)
                    keep(_Kept(*key, similarity=float(cosine)))
                counter.advance(len(pairs))
