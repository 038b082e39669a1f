"""How the served model ranks: nDCG@10 of the engine's top hits reordered, by the weight beside the engine's score.

`python -m bench.quality BEIR_FOLDER...` (corpus.jsonl, queries.jsonl, qrels/test.tsv; exclude.tsv's pairs are dropped).
The weight is chosen on the first half of the queries of all folders and reported on the other half.
"""

from __future__ import annotations

import asyncio
import csv
import json
import random
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import mean
from typing import Annotated

import typer
from ir_measures import Qrel, ScoredDoc, iter_calc, nDCG

from bench.http_load import machine
from plugin_service.adapters.manifest import ManifestFile
from whyrank.embedded import engine, model_server
from whyrank.embedded.cache import Cache
from whyrank.engines import Engine, connect
from whyrank.model_client import HttpTransport, ModelClient
from whyrank.passages import content_hash, fit
from whyrank.ranking import fuse
from whyrank.settings import Settings
from whyrank.types import Candidate, Fragment, FusionWeights, Mode, RankedHit, Verdict
from whyrank.verdict import parse

WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
MAPPINGS = {"properties": {name: {"type": "text", "analyzer": "english"} for name in ("title", "text", "all")}}
MEASURE = nDCG @ 10
BUDGET = 192


class Collection:
    """A BEIR folder, with a sample of its queries that have judgements."""

    def __init__(self, folder: Path, queries: int) -> None:
        self.name = folder.name
        self.folder = folder
        with (folder / "qrels" / "test.tsv").open(encoding="utf-8") as file:
            rows = [
                (row["query-id"], row["corpus-id"], int(row["score"])) for row in csv.DictReader(file, delimiter="\t")
            ]
        self.excluded = _excluded(folder / "exclude.tsv")
        judged = {query for query, _, score in rows if score > 0}
        found = [q for q in _lines(folder / "queries.jsonl") if q["_id"] in judged]
        random.Random(7).shuffle(found)
        self.queries = {q["_id"]: q["text"] for q in found[:queries]}
        self.qrels = [Qrel(q, d, s) for q, d, s in rows if q in self.queries and (q, d) not in self.excluded]

    def documents(self) -> Iterator[tuple[str, dict[str, str]]]:
        """(id, document) of the whole corpus."""
        for line in _lines(self.folder / "corpus.jsonl"):
            title, text = line.get("title", ""), line["text"]
            yield line["_id"], {"title": title, "text": text, "all": f"{title} {text}"}


def _lines(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _excluded(path: Path) -> set[tuple[str, str]]:
    if not path.exists():
        return set()
    with path.open(encoding="utf-8") as file:
        return {(row[0], row[1]) for row in csv.reader(file, delimiter="\t") if len(row) > 1}


Judged = dict[str, list[RankedHit]]
"""Hits in engine order with their verdicts, by query."""


async def judge(
    collection: Collection, searcher: Engine, client: ModelClient, settings: Settings, depth: int
) -> Judged:
    """The engine's top hits of each query, with a verdict each where the model gave one."""
    served = ManifestFile(settings).current()
    slots = asyncio.Semaphore(32)

    async def one(query: str, position: int, hit: dict) -> RankedHit:  # type: ignore[type-arg]
        source = hit["_source"]
        fields = tuple(Fragment(name, source[name]) for name in ("title", "text") if source[name])
        candidate = Candidate(hit["_id"], collection.name, fields, content_hash(fields), hit["_score"])
        async with slots:
            answer = await client.ask(query, fit(candidate, BUDGET, None), Mode.REASON, served.constraint)
        verdict = parse(
            answer.text, answer.tokens, passage=answer.passage, mode=Mode.REASON, model_revision=served.revision
        )
        kept = verdict if isinstance(verdict, Verdict) else None
        return RankedHit(candidate.id, collection.name, position, hit["_score"], key="k", verdict=kept)

    async def all_of(query: str, text: str) -> tuple[str, list[RankedHit]]:
        body = {"size": depth, "query": {"match": {"all": text}}}
        hits = (await searcher.search(collection.name, body))["hits"]["hits"]
        kept = [hit for hit in hits if (query, hit["_id"]) not in collection.excluded]
        return query, list(await asyncio.gather(*(one(text, i, hit) for i, hit in enumerate(kept))))

    return dict(await asyncio.gather(*(all_of(query, text) for query, text in collection.queries.items())))


def scores(collection: Collection, judged: Judged, weight: float) -> dict[str, float]:
    """nDCG@10 of each query, the model's relevance weighing `weight` and the engine's score the rest."""
    run = []
    for query, hits in judged.items():
        ranked = fuse(hits, FusionWeights(1.0 - weight, weight))
        run += [ScoredDoc(query, hit.id, float(-rank)) for rank, hit in enumerate(ranked)]
    found: dict[str, float] = defaultdict(float)
    found.update({m.query_id: m.value for m in iter_calc([MEASURE], collection.qrels, run)})
    return found


async def measure(folders: Sequence[Path], queries: int, depth: int, home: Path) -> list[str]:
    """Rows of the report."""
    collections = [Collection(folder, queries) for folder in folders]
    cache = Cache()
    with ExitStack() as parts:
        settings = Settings(
            engine_url=parts.enter_context(engine.start(home / "engine", cache=cache)),
            model_url=parts.enter_context(model_server.start(home / "model", cache=cache)),
            model_manifest=model_server.write_manifest(home / "manifest"),
        )
        searcher = await connect(settings)
        results = []
        async with HttpTransport(settings.model_url, None, settings.model_timeout_s) as transport:
            client = ModelClient(transport, settings.model_name, settings.max_explanation_tokens)
            for collection in collections:
                await searcher.ensure_index(collection.name, MAPPINGS, {})
                await searcher.bulk(collection.name, collection.documents())
                await searcher.refresh(collection.name)
                results.append(await judge(collection, searcher, client, settings, depth))
        await searcher.close()
    return report(collections, results)


def report(collections: Sequence[Collection], results: Sequence[Judged]) -> list[str]:
    """Choose the weight on one half of the queries, report the other half, and how the explanations are."""
    halves: dict[float, tuple[list[float], list[float]]] = {}
    for weight in WEIGHTS:
        halves[weight] = ([], [])
        for collection, judged in zip(collections, results, strict=True):
            found = scores(collection, judged, weight)
            for number, query in enumerate(collection.queries):
                halves[weight][number % 2].append(found[query])
    chosen = max(WEIGHTS, key=lambda weight: mean(halves[weight][0]))
    rows = ["| weight of the model | nDCG@10, choosing half | nDCG@10, other half |", "| --- | --- | --- |"]
    rows += [
        f"| {w:.2f}{' (chosen)' if w == chosen else ''} | {mean(a):.3f} | {mean(b):.3f} |"
        for w, (a, b) in halves.items()
    ]
    hits = [hit for judged in results for found in judged.values() for hit in found]
    verdicts = [hit.verdict for hit in hits if hit.verdict is not None]
    labels = [sum(v.label == label for v in verdicts) for label in (0, 1, 2)]
    rows.append(
        f"\n{len(hits)} pairs: {len(verdicts)} parsed, {sum(v.grounded for v in verdicts)} grounded; "
        f"labels 0/1/2: {labels[0]}/{labels[1]}/{labels[2]}"
    )
    return rows


def main(
    folders: Annotated[list[Path], typer.Argument(exists=True, file_okay=False, help="BEIR folders.")],
    queries: Annotated[int, typer.Option(help="Queries of each folder.")] = 16,
    depth: Annotated[int, typer.Option(help="Top hits judged for each query.")] = 10,
) -> None:
    """Measure the embedded model's ranking."""
    print(f"## `python -m bench.quality`, {', '.join(f.name for f in folders)}\n\n{machine()}\n")
    with tempfile.TemporaryDirectory(prefix="whyrank-quality-") as home:
        print("\n".join(asyncio.run(measure(folders, queries, depth, Path(home)))))


if __name__ == "__main__":
    typer.run(main)
