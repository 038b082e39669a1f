"""What every source gives and the loader takes: one page as a document."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

MAX_BODY_CHARS = 500_000
"""Engines refuse to highlight a field of more than a million characters (`index.highlight.max_analyzed_offset`)."""


class Link(msgspec.Struct, frozen=True):
    """A link of a page: absolute address, and the words that it is set on."""

    url: str
    anchor: str


class Fragment(msgspec.Struct, frozen=True):
    """A place in a page that links can name: `#id` is at the beginning of line `line` of the body, from 0."""

    id: str
    line: int


class Post(msgspec.Struct, frozen=True, kw_only=True):
    """What a question-and-answer site knows of a page. Ids are those of documents."""

    kind: Literal["question", "answer"]
    score: int
    """Votes up less votes down."""
    tags: tuple[str, ...] = ()
    question: str | None = None
    """The title of an answer's question. Not the answer's own title: a search would find it by that alone."""
    parent: str | None = None
    """An answer's question."""
    accepted: bool = False
    linked: tuple[str, ...] = ()
    """Questions that this one, its answers or comments refer to."""
    duplicates: tuple[str, ...] = ()
    """Questions that this one was closed as a duplicate of."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """One page.

    `id` is the same each time that the source is read, so that indexing again replaces. `body` is plain text, one
    block a line, at most MAX_BODY_CHARS characters. `content_hash` covers what is searched and shown.
    """

    id: str
    url: str
    title: str
    body: str
    headings: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    fragments: tuple[Fragment, ...] = ()
    site: str
    language: str | None = None
    post: Post | None = None
    content_hash: str


class Skipped(msgspec.Struct, frozen=True):
    """Something that a source could not make a document of, by name."""

    name: str
    reason: str


def make_document(
    *,
    id: str,
    url: str,
    title: str,
    body: str,
    site: str,
    headings: tuple[str, ...] = (),
    links: tuple[Link, ...] = (),
    fragments: tuple[Fragment, ...] = (),
    language: str | None = None,
    post: Post | None = None,
) -> Document:
    """A document with its body cut to size and its hash made."""
    if len(body) > MAX_BODY_CHARS:
        body = body[:MAX_BODY_CHARS]
        last = body.count("\n")
        fragments = tuple(fragment for fragment in fragments if fragment.line <= last)
    content = msgspec.json.encode((url, title, body, headings, links, site, language))
    return Document(
        id=id,
        url=url,
        title=title,
        body=body,
        headings=headings,
        links=links,
        fragments=fragments,
        site=site,
        language=language,
        post=post,
        content_hash=hashlib.blake2b(content, digest_size=16).hexdigest(),
    )
