"""Pages made up for the tests of mining."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec

from training.mine.config import MineConfig
from training.mine.corpus import Corpus
from training.mine.pages import Page, page_of
from training.mine.seeds import Matcher, Quarry
from training.records import Source, Split
from whyrank.engines import ScanHit

INDEX = "docs"
SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe qui ro su ta ve wi xo zu".split()  # noqa: SIM905


def word(random_: random.Random) -> str:
    return "".join(random_.choices(SYLLABLES, k=random_.randint(2, 4)))


def sentence(random_: random.Random, count: int = 11) -> str:
    return " ".join(word(random_) for _ in range(count)).capitalize() + "."


def paragraph(seed: object, sentences: int = 4) -> str:
    random_ = random.Random(str(seed))
    return " ".join(sentence(random_) for _ in range(sentences))


def source(name: str, sections: dict[str, str], *, site: str = "site", **more: Any) -> dict[str, Any]:
    """A document as `ingest` writes it, with a heading over each section and a place at each heading."""
    lines = [line for heading, text in sections.items() for line in (heading, *text.split("\n"))]
    starts = {heading: lines.index(heading) for heading in sections}
    return {
        "url": f"https://{site}/{name}",
        "title": f"Topic {name}",
        "body": "\n".join(lines),
        "headings": list(sections),
        "fragments": [{"id": heading.replace(" ", "-"), "line": line} for heading, line in starts.items()],
        "links": [],
        "site": site,
        "content_hash": f"hash of {sorted(sections.items())}",
        **more,
    }


def link(target: str, anchor: str, site: str = "site") -> dict[str, str]:
    return {"url": f"https://{site}/{target}", "anchor": anchor}


def plain(name: str, **more: Any) -> dict[str, Any]:
    """A page like no other, with three sections of prose."""
    random_ = random.Random(name)
    sections = {f"{word(random_)} {word(random_)}".capitalize(): paragraph(f"{name}/{number}") for number in range(3)}
    return source(name, sections, **more)


def page(name: str, document: dict[str, Any], **config: Any) -> Page:
    found = page_of(MineConfig(index=INDEX, **config), ScanHit(name, INDEX, document))
    assert found is not None
    return found


def corpus(
    folder: Path, documents: dict[str, dict[str, Any]], known: dict[str, Split] | None = None, **config: Any
) -> Corpus:
    path = folder / "pages.jsonl"
    pages = (page(name, document, **config) for name, document in documents.items())
    path.write_bytes(b"".join(msgspec.json.encode(found) + b"\n" for found in pages))
    return Corpus(path, MineConfig(index=INDEX, **config), known or {})


class Drops(dict[str, int]):
    """Counts why things were dropped."""

    def __call__(self, source: Source, why: str) -> None:
        self[f"{source}.{why}"] = self.get(f"{source}.{why}", 0) + 1


def quarry(folder: Path, documents: dict[str, dict[str, Any]], **config: Any) -> tuple[Quarry, Drops]:
    found = corpus(folder, documents, **config)
    drops = Drops()
    return Quarry(found, Matcher(found), MineConfig(index=INDEX, **config), drops, [True] * len(found)), drops
