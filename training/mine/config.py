"""What mining can be told."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from training.records import Source

Share = Annotated[float, Meta(ge=0.0, le=0.5)]
Count = Annotated[int, Meta(ge=1)]
Few = Annotated[int, Meta(ge=0, le=64)]

ALL_SOURCES = (Source.STACKEXCHANGE, Source.UBI, Source.ANCHOR, Source.HEADING, Source.SENTENCE)


class SplitBy(StrEnum):
    """What is kept together, beside near-duplicates."""

    PAGE = "page"
    """A page, a question with its answers."""
    SITE = "site"
    """All pages of a site."""


class MineConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The recipe's section `mine`. Tokens are counted by `whyrank.passages.estimate_tokens`."""

    index: str = ""
    """Index or alias to read; several with commas. Must be given."""
    key: str = "url"
    """A keyword field, unique but for exceptions: the order of reading, by which an interrupted one goes on."""
    title_field: str = "title"
    body_field: str = "body"
    filter: dict[str, Any] = {}
    """Only documents that this query (of the engine's DSL) matches; all when empty."""
    sources: tuple[Source, ...] = ALL_SOURCES

    group_size: Annotated[int, Meta(ge=2, le=64)] = 8
    max_positives: Count = 3
    hard_negatives: Few = 6
    """At most; those found by the engine's search for the query."""
    random_negatives: Few = 1
    """At least, where the group has room; more when the search finds too few."""
    siblings: Few = 1
    """Of the hard negatives, how many may be other passages of a positive's own page."""
    groups_per_source: Count = 20_000
    """Chosen by hash where there are more."""
    queries_per_page: Count = 4
    """Of each source at most, chosen by hash."""

    passage_tokens: Annotated[int, Meta(ge=64, le=8192)] = 256
    """The policy's: what the model reads at serving."""
    min_words: Count = 20
    """Fewer words do not make a positive."""
    max_anchor_pages: Count = 25
    """Words that link to one place from more pages than this are the site's navigation."""

    search_fields: Annotated[tuple[str, ...], Meta(min_length=1)] = ("title", "body")
    search_depth: Annotated[int, Meta(ge=1, le=1000)] = 30
    """Hits that hard negatives are taken from."""
    search_batch: Count = 32
    """Searches in one request."""
    searches_at_once: Count = 2
    """Requests in flight."""
    slices: Annotated[int, Meta(ge=1, le=64)] = 2
    """Parts that the index is read in at the same time."""
    scan_page: Annotated[int, Meta(ge=1, le=10_000)] = 500

    split_by: SplitBy = SplitBy.PAGE
    validation_share: Share = 0.1
    test_share: Share = 0.1
    held_out_sites: tuple[str, ...] = ()
    """Sites whose pages are all for the test."""
    seed: int = 0
    since: str = ""
    """`mine/watermark.jsonl` of an earlier run: only pages that are new or changed since make groups, and pages
    that it knows keep their split."""

    ubi_queries: str = "ubi_queries"
    ubi_events: str = "ubi_events"
    ubi_key: str = "query_id"
    """The keyword field of both that joins them (`query_id.keyword` where a dynamic mapping made it)."""
    min_clicks: Count = 1
