"""Which pairs a round samples: judged groups, whole, because the ranking reward needs all of a group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

import msgspec

from training.records import Group, GroupPassage, Judgement, Split, read
from whyrank.types import Passage


class JudgedPair(msgspec.Struct, frozen=True):
    """A query and a passage with the teacher's judgement."""

    query: str
    passage: GroupPassage
    judgement: Judgement

    @property
    def key(self) -> tuple[str, str]:
        """(group, passage): names the pair in every file of the stage."""
        return self.judgement.group, self.judgement.passage

    def read_as(self, chars: int) -> Passage:
        """The passage as a model read it whose server took only its first `chars` characters."""
        whole = self.passage.passage()
        return whole if chars >= len(whole.text) else Passage(whole.text[:chars], truncated=True)


class JudgedGroup(msgspec.Struct, frozen=True):
    """A group's judged pairs, in the engine's order; never empty."""

    id: str
    split: Split
    pairs: tuple[JudgedPair, ...]


def judged_groups(groups: Path, judgements: Path) -> list[JudgedGroup]:
    """The groups that have a judgement. Raises RecordsError as `training.records.read`."""
    verdicts = {(judgement.group, judgement.passage): judgement for judgement in read(judgements, Judgement)}
    found: list[JudgedGroup] = []
    for group in read(groups, Group):
        pairs = tuple(
            JudgedPair(group.query, passage, judgement)
            for passage in group.passages
            if (judgement := verdicts.get((group.id, passage.id))) is not None
        )
        if pairs:
            found.append(JudgedGroup(group.id, group.split, pairs))
    return found


def shuffled(groups: Iterable[JudgedGroup], split: Split, seed: int) -> list[JudgedGroup]:
    """The split's groups in an order that depends on nothing but their ids and the seed."""
    return sorted(
        (group for group in groups if group.split is split),
        key=lambda group: blake2b(f"{seed}:{group.id}".encode(), digest_size=8).digest(),
    )


def take(groups: Sequence[JudgedGroup], pairs: int, first: int = 0) -> list[JudgedGroup]:
    """Groups from number `first` on, round and round, each once: at least one, then as many as `pairs` has room for."""
    taken: list[JudgedGroup] = []
    room = pairs
    for number in range(len(groups)):
        group = groups[(first + number) % len(groups)]
        if taken and len(group.pairs) > room:
            break
        taken.append(group)
        room -= len(group.pairs)
    return taken


def rounds(groups: Sequence[JudgedGroup], pairs: int, count: int) -> list[list[JudgedGroup]]:
    """What each of `count` rounds samples: each goes on where the one before ended."""
    plan: list[list[JudgedGroup]] = []
    first = 0
    for _ in range(count):
        plan.append(take(groups, pairs, first))
        first += len(plan[-1])
    return plan
