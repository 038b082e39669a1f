"""The steps of the stage, each of which goes on where a killed run left it."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter, deque
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog

from training import records
from training.mine import clicks, reading
from training.mine.anchors import anchor_seeds
from training.mine.config import MineConfig
from training.mine.corpus import Corpus
from training.mine.grouping import Hit, group_of, search
from training.mine.questions import question_seeds
from training.mine.sections import heading_seeds, sentence_seeds
from training.mine.seeds import Chosen, Matcher, Quarry, Seed
from training.mine.spool import Spool
from training.progress import Stopwatch, counting
from training.records import Group, Source, Split
from training.stages import Progress, Report, Stage, StageError, config_hash
from whyrank.engines import Engine, connect
from whyrank.errors import IndexMissingError
from whyrank.settings import Settings

GROUPS = "groups.jsonl"
WATERMARK = "watermark.jsonl"
"""What this run has seen (Known), for `MineConfig.since` of the next."""

log = structlog.get_logger(__name__)
T = TypeVar("T")


class Known(msgspec.Struct, frozen=True):
    """An origin that was mined: a page, or a query of users."""

    id: str
    content_hash: str
    split: Split
    version: int = records.RECORDS_VERSION


class Mining:
    """One run of the stage, in its folder."""

    def __init__(self, folder: Path, config: MineConfig, settings: Settings, progress: Progress) -> None:
        self._folder = folder
        self._work = folder / "work"
        self._config = config
        self._settings = settings
        self._progress = progress
        self._dropped: Counter[str] = Counter()
        self._seconds: dict[str, float] = {}

    def go(self, watch: Stopwatch) -> Report:
        """Everything that is not done yet. The report is not written."""
        self._begin()
        known = self._known()
        with self._timed("read"):
            asyncio.run(self._with_engine(self._read))
        watch.save()
        with self._timed("cut"):
            counts = self._cut()
        watch.save()
        with self._timed("compare"):
            corpus = self._corpus(known)
        quarry = self._quarry(corpus, known)
        asked = self._clicks()
        with self._timed("seeds"):
            seeds = self._seeds(quarry, asked, known)
        watch.save()
        with self._timed("groups"):
            asyncio.run(self._with_engine(partial(self._groups, seeds=seeds, quarry=quarry)))
        figures = {**counts, **self._figures(corpus, seeds, quarry)}
        outputs = {GROUPS: self._write_groups(corpus), WATERMARK: self._write_watermark(corpus, asked)}
        shutil.rmtree(self._work)
        inputs = {"config": config_hash(self._config), "index": corpus.fingerprint()}
        if self._config.since:
            inputs["since"] = records.file_hash(Path(self._config.since))
        return Report(Stage.MINE, inputs, outputs, figures, watch.seconds)

    def _begin(self) -> None:
        """The folder of this config's work: what another config has left there is of no use."""
        mark = self._work / "config.json"
        content = msgspec.json.encode(self._config, order="sorted")
        if self._work.exists() and not (mark.exists() and mark.read_bytes() == content):
            log.info("mining_begins_anew", folder=str(self._work), why="it was begun with another configuration")
            shutil.rmtree(self._work)
        self._work.mkdir(exist_ok=True)
        mark.write_bytes(content)

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        """Seconds of a step over all attempts."""
        folder = self._work / f"{step}.time"
        folder.mkdir(exist_ok=True)
        with Stopwatch(folder) as watch:
            yield
        self._seconds[step] = round(watch.seconds, 3)

    async def _with_engine(self, work: Any) -> None:
        engine = await connect(self._settings)
        try:
            await work(engine)
        finally:
            await engine.close()

    async def _read(self, engine: Engine) -> None:
        total = await engine.count(self._config.index)
        with counting("reading the index", total, self._progress, unit="pages") as counter:
            await reading.read_index(engine, self._config, self._work, counter)
        if Source.UBI not in self._config.sources:
            return
        for index, fields, keep in (
            (self._config.ubi_queries, clicks.QUERY_FIELDS, clicks.asked),
            (self._config.ubi_events, clicks.EVENT_FIELDS, clicks.clicked),
        ):
            with counting(f"reading {index}", 0, self._progress, unit="records") as counter:
                try:
                    await reading.read_part(
                        engine, index, self._ubi(index), counter, keep, by=self._config.ubi_key, fields=fields
                    )
                except IndexMissingError:
                    log.info("no_user_behaviour", index=index)

    def _ubi(self, index: str) -> Path:
        return self._work / f"ubi-{'queries' if index == self._config.ubi_queries else 'events'}.jsonl"

    def _cut(self) -> dict[str, int]:
        with counting("cutting pages", 0, self._progress, unit="pages") as counter:
            return dict(reading.cut_pages(self._config, self._work, counter))

    def _known(self) -> dict[str, Known]:
        if not self._config.since:
            return {}
        return {known.id: known for known in records.read(Path(self._config.since), Known)}

    def _corpus(self, known: dict[str, Known]) -> Corpus:
        self._progress("comparing pages", None)
        splits = {id_: found.split for id_, found in known.items()}
        corpus = Corpus(self._work / "pages.jsonl", self._config, splits)
        if not len(corpus):
            raise StageError(
                f"{self._config.index} has no documents with text in {self._config.body_field!r}: index pages first, "
                "or name the field in mine.body_field"
            )
        return corpus

    def _quarry(self, corpus: Corpus, known: dict[str, Known]) -> Quarry:
        fresh = [
            (seen := known.get(id_)) is None or seen.content_hash != content
            for id_, content in zip(corpus.ids, corpus.hashes, strict=True)
        ]
        return Quarry(corpus, Matcher(corpus), self._config, self._drop, fresh)

    def _drop(self, source: Source, why: str) -> None:
        self._dropped[f"{source}.{why}"] += 1

    def _clicks(self) -> dict[str, clicks.Clicks]:
        paths = [self._ubi(index) for index in (self._config.ubi_queries, self._config.ubi_events)]
        if Source.UBI not in self._config.sources or not all(path.exists() for path in paths):
            return {}
        with closing(Spool(paths[0])) as queries, closing(Spool(paths[1])) as events:
            return clicks.together(queries.read(clicks.Asked), events.read(clicks.Clicked))

    def _seeds(self, quarry: Quarry, asked: dict[str, clicks.Clicks], known: dict[str, Known]) -> list[Seed]:
        path = self._work / "seeds.jsonl"
        if not records.manifest_path(path).exists():
            new = {
                origin: found
                for origin, found in asked.items()
                if (seen := known.get(origin)) is None or seen.content_hash != found.fingerprint
            }
            chosen = Chosen(self._config, self._drop)
            for seeds in self._offers(quarry, new):
                chosen.offer(seeds)
            records.write(path, chosen.seeds(), counts=self._dropped)
        self._dropped = Counter(records.check(path).counts)
        return list(records.read(path, Seed))

    def _offers(self, quarry: Quarry, asked: dict[str, clicks.Clicks]) -> Iterator[Sequence[Seed]]:
        """The seeds of each origin. People's own queries come first: a query is kept once."""
        wanted = self._config.sources
        if Source.UBI in wanted:
            yield from clicks.click_seeds(asked, quarry)
        with counting("looking for queries", len(quarry.corpus), self._progress, unit="pages") as counter:
            if Source.STACKEXCHANGE in wanted:
                for number, page in enumerate(quarry.corpus.pages()):
                    yield list(question_seeds(page, number, quarry))
            if Source.ANCHOR in wanted:
                yield from anchor_seeds(quarry)
            for number, page in enumerate(quarry.corpus.pages()):
                if Source.HEADING in wanted:
                    yield list(heading_seeds(page, number, quarry))
                if Source.SENTENCE in wanted:
                    yield list(sentence_seeds(page, number, quarry))
                counter.advance()

    async def _groups(self, engine: Engine, seeds: Sequence[Seed], quarry: Quarry) -> None:
        with closing(Spool(self._work / GROUPS)) as spool:
            done = int(spool.state.mark or 0)
            with counting("making groups", len(seeds), self._progress, unit="groups", done=done) as counter:
                async for batch, found in self._searched(engine, seeds[done:], quarry.corpus):
                    for seed, hits in zip(batch, found, strict=True):
                        group = group_of(seed, hits, quarry)
                        if isinstance(group, Group):
                            spool.add([group])
                        else:
                            why = f"{seed.source}.{group}"
                            spool.state.counts[why] = spool.state.counts.get(why, 0) + 1
                    done += len(batch)
                    spool.commit(done)
                    counter.advance(len(batch))
            spool.commit(done, done=True)
            self._dropped.update(spool.state.counts)

    async def _searched(
        self, engine: Engine, seeds: Sequence[Seed], corpus: Corpus
    ) -> AsyncIterator[tuple[Sequence[Seed], list[list[Hit]]]]:
        """Batches of seeds with their hits, in order; some requests are ahead of who asks."""
        size = self._config.search_batch
        ahead: deque[tuple[Sequence[Seed], asyncio.Task[list[list[Hit]]]]] = deque()
        starts = iter(range(0, len(seeds), size))
        try:
            while True:
                while len(ahead) < self._config.searches_at_once and (start := next(starts, None)) is not None:
                    batch = seeds[start : start + size]
                    asking: Coroutine[Any, Any, list[list[Hit]]] = search(engine, batch, corpus, self._config)
                    ahead.append((batch, asyncio.create_task(asking)))
                if not ahead:
                    return
                batch, task = ahead[0]
                yield batch, await task
                ahead.popleft()
        finally:
            for _, task in ahead:
                task.cancel()
            await asyncio.gather(*(task for _, task in ahead), return_exceptions=True)

    def _write_groups(self, corpus: Corpus) -> str:
        made_of = {"config": config_hash(self._config), "index": corpus.fingerprint()}
        counts: Counter[str] = Counter()

        def counted() -> Iterator[Group]:
            with closing(Spool(self._work / GROUPS)) as spool:
                for group in spool.read(Group):
                    counts[f"{group.source}.{group.split}"] += 1
                    yield group

        path = self._folder / GROUPS
        records.write(path, counted(), made_of, counts)
        return records.file_hash(path)

    def _write_watermark(self, corpus: Corpus, asked: dict[str, clicks.Clicks]) -> str:
        pages = (
            Known(id_, content, corpus.split_of(number))
            for number, (id_, content) in enumerate(zip(corpus.ids, corpus.hashes, strict=True))
        )
        queries = (Known(origin, found.fingerprint, Split.TRAIN) for origin, found in asked.items())
        path = self._folder / WATERMARK
        records.write(path, (known for source in (pages, queries) for known in source))
        return records.file_hash(path)

    def _figures(self, corpus: Corpus, seeds: Sequence[Seed], quarry: Quarry) -> dict[str, Any]:
        groups: Counter[str] = Counter()
        roles: Counter[str] = Counter()
        with closing(Spool(self._work / GROUPS)) as spool:
            for group in spool.read(Group):
                groups[f"{group.source}.{group.split}"] += 1
                roles.update(passage.role.value for passage in group.passages)
        sizes = Counter(Counter(corpus.page_clusters.tolist()).values())
        reading_s = self._seconds["read"]
        return {
            "pages": len(corpus),
            "passages": corpus.first_piece[-1],
            "sites": len(set(corpus.sites)),
            "pages_by_split": dict(sorted(Counter(corpus.split_of(n).value for n in range(len(corpus))).items())),
            "pages_in_clusters_by_size": {str(size): size * count for size, count in sorted(sizes.items())},
            "queries": len(seeds),
            "groups": dict(sorted(groups.items())),
            "passages_by_role": dict(sorted(roles.items())),
            "dropped": dict(sorted(self._dropped.items())),
            "new_pages": sum(quarry.fresh),
            "watermark": WATERMARK,
            "seconds": self._seconds,
            "pages_read_per_second": round(len(corpus) / reading_s, 1) if reading_s else None,
        }
