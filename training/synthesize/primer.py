"""The primer: queries beside single sentences, learnt before whole passages.

A small student that starts with hard negatives stays at chance for a long time: every passage of a group shares the
query's words, and one label is all that it is told of some hundred tokens. Of one sentence beside others taken at
random, it learns within minutes to compare what it reads with the query, and that carries over to passages
(bench/LOG.md; curriculum learning: Bengio et al., 2009).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from hashlib import sha256

import numpy as np

from training.records import Group, GroupPassage, Judgement, Role, Split
from training.synthesize import soft_labels
from training.synthesize.config import OfflineConfig
from training.synthesize.soft_labels import DECIMALS, Array
from whyrank.bi_encoder import Vectors

_NEAREST = 3
"""One of so many of the group's sentences that are nearest to its query is in: not always the very nearest, of which
many groups have the same."""
_LEAST_WORDS = 5


class Sentences:
    """The sentences of all groups, with their vectors."""

    def __init__(self, of_groups: Mapping[str, Sequence[str]], vectors: Mapping[str, Array]) -> None:
        self._of_groups = of_groups
        self._vectors = vectors
        self._all = sorted(text for text in vectors if len(text.split()) >= _LEAST_WORDS)

    def choose(self, group: str, query: Array, size: int, chance: random.Random) -> list[str]:
        """`size` sentences beside a query: one of the nearest, some others of its passages, the rest at random.

        Fewer where there are not enough.
        """
        own = sorted(set(self._of_groups[group]), key=lambda text: (-float(self._vectors[text] @ query), text))
        if not own:
            return []
        chosen = {chance.choice(own[:_NEAREST]): None}
        chosen |= dict.fromkeys(chance.sample(own, min(len(own), max(1, size // 2 - 1))))
        others = chance.sample(self._all, min(len(self._all), 2 * size))
        chosen |= dict.fromkeys(others[: size - len(chosen)])
        texts = list(chosen)
        chance.shuffle(texts)
        return texts

    def cosines(self, texts: Sequence[str], query: Array) -> Array:
        """Shape (len(texts),)."""
        return np.array([float(self._vectors[text] @ query) for text in texts])


def build(
    groups: Sequence[Group], queries: Vectors, sentences: Sentences, config: OfflineConfig, teacher: str
) -> tuple[list[Group], list[Judgement]]:
    """`config.primer_groups` groups of sentences with their judgements, of the groups of the split `train`.

    `queries` has shape (len(groups), dimensions). Every group has its turn before one has a second.
    """
    learnt = [(group, query) for group, query in zip(groups, queries, strict=True) if group.split is Split.TRAIN]
    learnt.sort(key=lambda pair: sha256(pair[0].id.encode()).digest())
    made: list[Group] = []
    cosines: list[Array] = []
    for turn in range(config.primer_groups if learnt else 0):
        group, vector = learnt[turn % len(learnt)]
        name = f"{group.id}.{turn // len(learnt)}"
        query = vector.astype(np.float64)
        chance = random.Random(name)  # noqa: S311 - a choice that is the same again, not a secret
        texts = sentences.choose(group.id, query, config.primer_sentences, chance)
        if len(texts) < 2:
            continue
        passages = tuple(GroupPassage(sha256(text.encode()).hexdigest()[:16], text, Role.RANDOM) for text in texts)
        made.append(Group(name, group.query, group.source, group.origin, group.site, group.split, passages))
        cosines.append(sentences.cosines(texts, query))
    scores = soft_labels.standing(cosines, config.relative_weight)
    cuts = soft_labels.cut_points(np.concatenate([*scores, np.zeros(0)]), config.shares)
    judged = [
        _judgement(group, passage, label, chances, teacher)
        for group, own in zip(made, scores, strict=True)
        for passage, label, chances in zip(
            group.passages,
            soft_labels.labels(own, cuts).tolist(),
            soft_labels.probabilities(own, cuts, config.temperature).tolist(),
            strict=True,
        )
    ]
    return made, judged


def _judgement(group: Group, passage: GroupPassage, label: int, chances: list[float], teacher: str) -> Judgement:
    p0, p1, p2 = chances
    return Judgement(
        group=group.id,
        passage=passage.id,
        teacher=teacher,
        label=label,
        probabilities=(p0, p1, p2),
        relevance=round((p1 + 2.0 * p2) / 2.0, DECIMALS),
        explanation=f'The document states "{passage.text}".',
        quotes=(passage.text,),
    )
