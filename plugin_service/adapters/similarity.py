"""Similarities of queries and passages by a bi-encoder, beside the model server's answers and never in their way."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import structlog

from whyrank.bi_encoder import BATCH, DESCRIPTION, BiEncoder, Vectors, describe
from whyrank.errors import BadRequestError

_PATIENCE_S = 30.0
"""Longest wait for one answer; it runs while the model server answers."""
_RETRY_S = 60.0
"""A folder that holds no bi-encoder that can be used is read again after this."""
_KEPT = 4096
"""Vectors at hand: the query of a window, and documents that many queries find; some 3 KB each with their texts."""
_log = structlog.get_logger(__name__)

Vector = npt.NDArray[np.float32]
Answer = list[float] | Exception


class Encoder(Protocol):
    """What is used of a BiEncoder."""

    @property
    def name(self) -> str:
        """The model's name."""
        ...

    def queries(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of queries."""
        ...

    def passages(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of passages."""
        ...


class NoEncoderError(Exception):
    """The bi-encoder asked for is not to be had. The first argument is why, as it is counted."""


@dataclass(frozen=True)
class Asked:
    """The cosines of a query with some passages, wanted by the bi-encoder of this name."""

    name: str
    query: str
    passages: tuple[str, ...]


class Similarity:
    """Cosines by the bi-encoder of `folder`, which need not be there yet: it is looked for whenever it is needed.

    Everything is computed on one thread of its own; what waits meanwhile is computed together. `count(result, pairs)`
    is told what became of the pairs: `known`, or why they are not: `absent` (nothing is in the folder), `broken` (no
    bi-encoder is in it), `other` (not the one asked for), `failed` (it did not take the texts), `late`.
    """

    def __init__(
        self, folder: Path, count: Callable[[str, int], None], load: Callable[[Path], Encoder] | None = None
    ) -> None:
        self._folder = folder
        self._count = count
        self._cosines = Cosines(folder, load or _load)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="similarity")
        self._waiting: list[tuple[Asked, asyncio.Future[list[float]]]] = []
        self._draining: asyncio.Task[None] | None = None
        self._told: set[str] = set()

    async def of(self, name: str, query: str, passages: Sequence[str]) -> list[float] | None:
        """The cosines of query and passages, in [-1, 1], by the bi-encoder of this name; None where there are none.

        Never raises (but for cancellation), and waits half a minute at most.
        """
        answer: asyncio.Future[list[float]] = asyncio.get_running_loop().create_future()
        self._waiting.append((Asked(name, query, tuple(passages)), answer))
        if self._draining is None or self._draining.done():
            self._draining = asyncio.create_task(self._drain(), name="similarity")
        try:
            async with asyncio.timeout(_PATIENCE_S):
                found = await answer
        except TimeoutError:
            why, detail = "late", f"not there after {_PATIENCE_S:.0f} s"
        except NoEncoderError as error:
            why, detail = str(error), str(error.__cause__ or "")
        except Exception as error:  # noqa: BLE001  whatever its libraries raise, the verdict does without
            why, detail = "failed", f"{type(error).__name__}: {error}"
        else:
            self._count("known", len(passages))
            return found
        self._count(why, len(passages))
        if why not in self._told:
            self._told.add(why)
            _log.warning("no_similarity", why=why, detail=detail, bi_encoder=name, folder=str(self._folder))
        return None

    async def close(self) -> None:
        """Compute no more; those who still wait must be cancelled."""
        if self._draining is not None:
            self._draining.cancel()
            await asyncio.gather(self._draining, return_exceptions=True)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _drain(self) -> None:
        """Batch by batch, until nothing waits."""
        while self._waiting:
            count = _next([asked for asked, _ in self._waiting])
            batch = [(asked, answer) for asked, answer in self._waiting[:count] if not answer.done()]
            del self._waiting[:count]
            call = asyncio.get_running_loop().run_in_executor
            found = await call(self._thread, self._cosines.of, [asked for asked, _ in batch])
            for (_, answer), cosines in zip(batch, found, strict=True):
                if answer.done():
                    continue
                if isinstance(cosines, Exception):
                    answer.set_exception(cosines)
                else:
                    answer.set_result(cosines)


class Cosines:
    """The blocking half, used by one thread: the bi-encoder, loaded when it is there, and the last used vectors."""

    def __init__(self, folder: Path, load: Callable[[Path], Encoder]) -> None:
        self._folder = folder
        self._load = load
        self._encoder: Encoder | None = None
        self._refused: tuple[str, str, float] | None = None
        """A bi-encoder that is not to be had, why, and until when that is believed (monotonic seconds)."""
        self._kept: OrderedDict[tuple[str, str], Vector] = OrderedDict()

    def of(self, batch: Sequence[Asked]) -> list[Answer]:
        """Answers, aligned with the batch, which is of one bi-encoder. A text it cannot read costs no other's."""
        try:
            return list(self._together(batch))
        except Exception as error:  # noqa: BLE001  handed to whoever waits
            if len(batch) == 1:
                return [error]
        return [answer for asked in batch for answer in self.of([asked])]

    def _together(self, batch: Sequence[Asked]) -> list[list[float]]:
        if not batch:
            return []
        encoder = self._encoder_named(batch[0].name)
        queries = self._vectors("query", encoder.queries, (asked.query for asked in batch))
        passages = self._vectors("passage", encoder.passages, (text for asked in batch for text in asked.passages))
        return [[_cosine(queries[asked.query], passages[text]) for text in asked.passages] for asked in batch]

    def _vectors(
        self, kind: str, encode: Callable[[Sequence[str]], Vectors], texts: Iterable[str]
    ) -> dict[str, Vector]:
        """Vectors by text; each text is encoded once while it is among the last used."""
        found: dict[str, Vector] = {}
        missing: dict[str, None] = {}
        for text in texts:
            if (vector := self._kept.get((kind, text))) is None:
                missing[text] = None
            else:
                self._kept.move_to_end((kind, text))
                found[text] = vector
        if missing:
            for text, vector in zip(missing, encode(list(missing)), strict=True):
                found[text] = self._kept[kind, text] = vector
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found

    def _encoder_named(self, name: str) -> Encoder:
        """The bi-encoder of this name. Raises NoEncoderError."""
        if self._encoder is not None and self._encoder.name == name:
            return self._encoder
        if self._refused is not None and self._refused[0] == name and time.monotonic() < self._refused[2]:
            raise NoEncoderError(self._refused[1])
        if not (self._folder / DESCRIPTION).exists():
            raise NoEncoderError("absent")
        try:
            if describe(self._folder).name != name:
                raise self._refusal(name, "other")
            encoder = self._load(self._folder)
        except BadRequestError as error:
            raise self._refusal(name, "broken") from error
        self._kept.clear()
        self._encoder = encoder
        _log.info("bi_encoder", name=name, folder=str(self._folder))
        return encoder

    def _refusal(self, name: str, why: str) -> NoEncoderError:
        self._refused = (name, why, time.monotonic() + _RETRY_S)
        return NoEncoderError(why)


def _load(folder: Path) -> Encoder:
    """The folder's bi-encoder on half of the cores: the model server may want the others."""
    return BiEncoder(folder, threads=max(1, len(os.sched_getaffinity(0)) // 2))


def _next(waiting: Sequence[Asked]) -> int:
    """How many of these are computed together: of one bi-encoder, and of as many passages as it takes at once."""
    count, passages = 0, 0
    for asked in waiting:
        passages += len(asked.passages)
        if count and (passages > BATCH or asked.name != waiting[0].name):
            break
        count += 1
    return count


def _cosine(query: Vector, passage: Vector) -> float:
    """Of two unit vectors. Raises ValueError where they are not made of numbers."""
    cosine = float(query @ passage)
    if not math.isfinite(cosine):
        raise ValueError("the bi-encoder's vectors are not finite")
    return min(1.0, max(-1.0, cosine))
