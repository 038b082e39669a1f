"""The held-out groups of a training run as a collection."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import groupby

from training.evaluate.collections.base import NOTHING, Document, GivenHit, IndexText
from training.records import Group, Judgement, Role, Source, Split
from whyrank.embedded.cache import digest


class Grades(StrEnum):
    """What is taken for the truth about a held-out group."""

    ROLES = "roles"
    """Passages that the data itself says answer the query (links, answers, clicks): no model has a say in it."""
    TEACHER = "teacher"
    """The teacher's labels: finer, and kind to whatever resembles the teacher."""


class HeldOut:
    """The groups of one split. Candidates are the passages that the engine found, in its order.

    A positive that the engine did not find stays a missed one: it cannot be reranked, as in a search. Synthetic
    queries are no queries of users, so they are not ranked by; they are other words for their origin's query.
    """

    excluded: Mapping[str, frozenset[str]] = NOTHING
    texts_in: IndexText | None = None

    def __init__(
        self,
        name: str,
        groups: Iterable[Group],
        judgements: Iterable[Judgement],
        *,
        split: Split,
        grades: Grades = Grades.ROLES,
    ) -> None:
        self.name = name
        chosen = [group for group in groups if group.split is split]
        asked = [group for group in chosen if group.source is not Source.SYNTHETIC]
        self.queries = {group.id: group.query for group in asked}
        self.given: dict[str, Sequence[GivenHit]] = {group.id: _found(group) for group in asked}
        self.labels: dict[tuple[str, str], int] = {}
        """The teacher's, by query and document."""
        wanted = {group.id for group in asked}
        for judgement in judgements:
            if judgement.group in wanted:
                self.labels[judgement.group, judgement.passage] = judgement.label
        self.qrels = _by_roles(asked) if grades is Grades.ROLES else _by_labels(self.labels)
        self.rephrased = _rephrased(chosen)
        """Synthetic queries by the query of the same origin."""

    def documents(self) -> Iterator[Document]:
        """None: the groups hold what the model reads."""
        return iter(())

    def content_hash(self) -> str:
        """See the protocol."""
        return digest(*self.queries, repr(self.given))


def _found(group: Group) -> tuple[GivenHit, ...]:
    return tuple(GivenHit(p.id, p.engine_score, p.passage()) for p in group.passages if p.engine_score is not None)


def _by_roles(groups: Iterable[Group]) -> dict[str, dict[str, int]]:
    return {group.id: {p.id: int(p.role is Role.POSITIVE) for p in group.passages} for group in groups}


def _by_labels(labels: dict[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for (query, document), label in labels.items():
        found[query][document] = label
    return dict(found)


def _rephrased(groups: Sequence[Group]) -> dict[str, tuple[str, ...]]:
    """An origin with several queries of its own has no one query that the synthetic ones are other words for."""
    found = {}
    in_order = sorted(groups, key=lambda group: group.origin)
    for _, members in groupby(in_order, key=lambda group: group.origin):
        of_origin = list(members)
        asked = [group for group in of_origin if group.source is not Source.SYNTHETIC]
        synthetic = tuple(group.query for group in of_origin if group.source is Source.SYNTHETIC)
        if len(asked) == 1 and synthetic:
            found[asked[0].id] = synthetic
    return found
