"""A document of the index as mining works on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np

from training.mine.config import MineConfig
from training.mine.duplicates import PERMUTATIONS, Signatures, signature
from training.mine.passages import Piece, cut, passage, piece_at
from whyrank.engines import ScanHit
from whyrank.types import Passage


class PageLink(msgspec.Struct, frozen=True):
    """A link of a page, as `ingest` writes it."""

    url: str
    anchor: str


class Post(msgspec.Struct, frozen=True):
    """What `ingest` writes of a question or an answer; ids are the engine's."""

    kind: str
    score: int = 0
    parent: str | None = None
    accepted: bool = False
    linked: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()


class Page(msgspec.Struct, frozen=True):
    """A page, cut into pieces."""

    id: str
    """As in the engine; with its index before it where several are mined."""
    url: str
    title: str
    site: str
    content_hash: str
    pieces: tuple[Piece, ...]
    signed: bytes
    """MinHash signatures of the pieces, one after the other."""
    links: tuple[PageLink, ...] = ()
    places: dict[str, int] = {}
    """The piece that each `#fragment` leads to."""
    post: Post | None = None

    def signatures(self) -> Signatures:
        """One row for each piece."""
        return np.frombuffer(self.signed, dtype=np.uint32).reshape(len(self.pieces), PERMUTATIONS)

    def passage(self, text: str, budget: int) -> Passage:
        """A text of this page as the model reads it."""
        return passage(self.title, text, budget)


def wanted_fields(config: MineConfig) -> list[str]:
    """The fields that `raw` reads."""
    ours = ("url", "site", "headings", "links", "fragments", "post", "content_hash")
    return list(dict.fromkeys((config.title_field, config.body_field, *ours)))


def key_of(config: MineConfig, id_: str, index: str) -> str:
    """A document's id in groups."""
    return f"{index}/{id_}" if "," in config.index or "*" in config.index else id_


def page_of(config: MineConfig, hit: ScanHit) -> Page | None:
    """The page of a document; None when it has no text. Fields that are not as `ingest` writes them count as absent."""
    source = hit.source
    body = _text(source.get(config.body_field))
    if not body.strip():
        return None
    title = _text(source.get(config.title_field)).strip()
    headings = _converted(source.get("headings"), tuple[str, ...], ())
    pieces = cut(title, body, headings, config.passage_tokens)
    name = partial(key_of, config, index=hit.index)
    post = _converted(source.get("post"), Post | None, None)
    return Page(
        id=name(hit.id),
        url=_text(source.get("url")),
        title=title,
        site=_text(source.get("site")) or hit.index,
        content_hash=_text(source.get("content_hash")) or _hash_of(title, body),
        pieces=tuple(pieces),
        signed=b"".join(signature(piece.text).tobytes() for piece in pieces),
        links=_converted(source.get("links"), tuple[PageLink, ...], ()),
        places=_places(source.get("fragments"), pieces),
        post=_named(post, name) if post is not None else None,
    )


def _named(post: Post, name: Any) -> Post:
    return msgspec.structs.replace(
        post,
        parent=name(post.parent) if post.parent is not None else None,
        linked=tuple(map(name, post.linked)),
        duplicates=tuple(map(name, post.duplicates)),
    )


class _Place(msgspec.Struct, frozen=True):
    id: str
    line: int


def _places(value: object, pieces: Sequence[Piece]) -> dict[str, int]:
    found: tuple[_Place, ...] = _converted(value, tuple[_Place, ...], ())
    return {place.id: piece_at(pieces, place.line) for place in found}


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return "\n".join(map(_text, value))
    return "" if value is None or isinstance(value, Mapping) else str(value)


def _converted(value: object, kind: Any, otherwise: Any) -> Any:
    if value is None:
        return otherwise
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return otherwise


def _hash_of(title: str, body: str) -> str:
    return blake2b(f"{title}\0{body}".encode("utf-8", "replace"), digest_size=16).hexdigest()
