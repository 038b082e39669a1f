"""Which split each page is for.

Pages that belong together (near-duplicates, a question and its answers, a site's) have one split, drawn by the hash
of their least id: mining again gives the same, whatever the order in which pages come. Pages that an earlier run
knew keep theirs, and new ones that belong to them follow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from training.mine.config import MineConfig, SplitBy
from training.records import Split

RANKS = {Split.TRAIN: 0, Split.VALIDATION: 1, Split.TEST: 2}
"""How strictly a split is kept apart."""


def draw(config: MineConfig, name: str) -> Split:
    """The split of a name, by its hash."""
    digest = blake2b(name.encode("utf-8", "replace"), digest_size=8, key=str(config.seed).encode()).digest()
    place = int.from_bytes(digest, "big") / 2**64
    if place < config.test_share:
        return Split.TEST
    return Split.VALIDATION if place < config.test_share + config.validation_share else Split.TRAIN


def assign(
    config: MineConfig,
    ids: Sequence[str],
    sites: Sequence[str],
    clusters: NDArray[np.int64],
    known: Mapping[str, Split],
) -> NDArray[np.int8]:
    """The rank of each page's split. `clusters` names the pages that belong together, `known` has splits by id."""
    members: dict[str | int, list[int]] = defaultdict(list)
    names = _site_clusters(sites, clusters) if config.split_by is SplitBy.SITE else clusters
    for number, cluster in enumerate(names.tolist()):
        members[cluster].append(number)
    ranks = np.zeros(len(ids), dtype=np.int8)
    for numbers in members.values():
        if any(sites[number] in config.held_out_sites for number in numbers):
            ranks[numbers] = RANKS[Split.TEST]
            continue
        earlier = [known[ids[number]] for number in numbers if ids[number] in known]
        least = min(ids[number] for number in numbers)
        # Where new pages join what was apart, those that are new go with the strictest of them
        split = max(earlier, key=RANKS.__getitem__) if earlier else draw(config, least)
        for number in numbers:
            ranks[number] = RANKS[known.get(ids[number], split)]
    return ranks


def _site_clusters(sites: Sequence[str], clusters: NDArray[np.int64]) -> NDArray[np.int64]:
    """Clusters of which any two that share a site are one."""
    first: dict[str, int] = {}
    parents = {name: name for name in clusters.tolist()}

    def find(name: int) -> int:
        while parents[name] != name:
            parents[name] = parents[parents[name]]
            name = parents[name]
        return name

    for site, cluster in zip(sites, clusters.tolist(), strict=True):
        a, b = find(first.setdefault(site, cluster)), find(cluster)
        parents[max(a, b)] = min(a, b)
    return np.asarray([find(name) for name in clusters.tolist()], dtype=np.int64)
