"""What every source gives and the loader takes: one page as a document."""

from __future__ import annotations

import hashlib

import msgspec

MAX_BODY_CHARS = 500_000
"""Engines refuse to highlight a field of more than a million characters (`index.highlight.max_analyzed_offset`)."""


class Link(msgspec.Struct, frozen=True):
    """A link of a page: absolute address, and the words that it is set on."""

    url: str
    anchor: str


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
    site: str
    language: str | None = None
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
    language: str | None = None,
) -> Document:
    """A document with its body cut to size and its hash made."""
    body = body[:MAX_BODY_CHARS]
    content = msgspec.json.encode((url, title, body, headings, links, site, language))
    return Document(
        id=id,
        url=url,
        title=title,
        body=body,
        headings=headings,
        links=links,
        site=site,
        language=language,
        content_hash=hashlib.blake2b(content, digest_size=16).hexdigest(),
    )
