"""Similarities with a made-up encoder: what is computed together, what is kept, and what happens without one."""

from __future__ import annotations

import asyncio
import math
import threading
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from structlog.testing import capture_logs

from plugin_service.adapters import similarity as module
from plugin_service.adapters.similarity import Similarity
from whyrank.bi_encoder import BATCH, DESCRIPTION, EncoderDescription, Vectors
from whyrank.errors import BadRequestError

NAME = "made-up"


class Encoder:
    """A text's vector is an angle: the number that it ends with, in degrees. `calls` are what it was given at once."""

    name = NAME

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str]]] = []
        self.threads: set[str] = set()
        self.poison: str | None = None
        self.hold: threading.Event | None = None

    def queries(self, texts: Sequence[str]) -> Vectors:
        return self._encode("query", texts)

    def passages(self, texts: Sequence[str]) -> Vectors:
        return self._encode("passage", texts)

    def _encode(self, kind: str, texts: Sequence[str]) -> Vectors:
        if self.hold is not None:
            self.hold.wait()
        self.threads.add(threading.current_thread().name)
        self.calls.append((kind, list(texts)))
        if self.poison in texts:
            raise RuntimeError("cannot read that")
        angles = np.radians([float(text.split()[-1]) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    def encoded(self, kind: str) -> list[str]:
        return [text for called, texts in self.calls if called == kind for text in texts]


class World:
    """A folder with a description, a counter, and as many Similarities as a test wants."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.encoder, self.counts = folder, Encoder(), Counter[str]()
        self.loads = 0
        self.broken = False
        self.similarity = Similarity(folder, self._count, self._load)

    def install(self, name: str = NAME) -> None:
        self.folder.mkdir(exist_ok=True)
        description = EncoderDescription(name, "cls")
        (self.folder / DESCRIPTION).write_bytes(msgspec.json.encode(description))

    def _count(self, result: str, pairs: int) -> None:
        self.counts[result] += pairs

    def _load(self, folder: Path) -> Encoder:
        assert folder == self.folder
        self.loads += 1
        if self.broken:
            raise BadRequestError("bi_encoder", "no model in it")
        return self.encoder

    async def of(self, query: str, *passages: str, name: str = NAME) -> list[float] | None:
        return await self.similarity.of(name, query, passages)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path / "encoder")
    world.install()
    yield world
    if world.encoder.hold is not None:
        world.encoder.hold.set()
    await world.similarity.close()


async def test_cosines_of_the_query_with_each_passage(world: World) -> None:
    found = await world.of("q 0", "p 0", "p 60", "p 90", "p 180")
    assert found == pytest.approx([1.0, 0.5, 0.0, -1.0], abs=1e-6)
    assert all(type(cosine) is float and -1.0 <= cosine <= 1.0 for cosine in found or ())
    assert world.counts == {"known": 4}


async def test_a_windows_query_and_a_known_passage_are_encoded_once(world: World) -> None:
    await asyncio.gather(*(world.of("q 0", f"p {angle}") for angle in range(5)))
    await world.of("q 0", "p 3", "p 9")
    await world.of("q 45", "p 3")
    assert world.encoder.encoded("query") == ["q 0", "q 45"]
    assert sorted(world.encoder.encoded("passage")) == [f"p {angle}" for angle in (0, 1, 2, 3, 4, 9)]


async def test_a_text_is_a_query_and_a_passage_apart(world: World) -> None:
    assert await world.of("same 30", "same 30") == pytest.approx([1.0])
    assert (world.encoder.encoded("query"), world.encoder.encoded("passage")) == (["same 30"], ["same 30"])


async def test_what_waits_is_computed_together_off_the_event_loop(world: World) -> None:
    world.encoder.hold = threading.Event()
    waiting = [asyncio.create_task(world.of("q 0", f"p {angle}")) for angle in range(BATCH + 5)]
    await asyncio.sleep(0)  # the event loop is free while the encoder is held
    world.encoder.hold.set()
    assert await asyncio.gather(*waiting) == [
        [pytest.approx(math.cos(math.radians(angle)), abs=1e-6)] for angle in range(BATCH + 5)
    ]
    sizes = [len(texts) for kind, texts in world.encoder.calls if kind == "passage"]
    assert sum(sizes) == BATCH + 5
    assert len(sizes) <= 3
    assert max(sizes) <= BATCH
    assert len(world.encoder.threads) == 1
    assert threading.current_thread().name not in world.encoder.threads


async def test_the_least_used_vectors_are_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 3)
    for angle in (1, 2, 1, 3, 1):
        await world.of("q 0", f"p {angle}")
    await world.of("q 0", "p 2")
    assert world.encoder.encoded("passage") == ["p 1", "p 2", "p 3", "p 2"]


async def test_an_encoder_that_is_not_there_yet_is_used_once_it_is(tmp_path: Path) -> None:
    world = World(tmp_path / "later")
    with capture_logs() as logs:
        assert [await world.of("q 0", "p 0", "p 1") for _ in range(3)] == [None] * 3
        world.install()
        assert await world.of("q 0", "p 0") == pytest.approx([1.0])
    assert world.counts == {"absent": 6, "known": 1}
    assert [(log["event"], log.get("why")) for log in logs] == [("no_similarity", "absent"), ("bi_encoder", None)]
    await world.similarity.close()


async def test_a_broken_encoder_is_not_loaded_again_and_again(world: World) -> None:
    world.broken = True
    with capture_logs() as logs:
        assert [await world.of("q 0", "p 0") for _ in range(3)] == [None] * 3
    assert world.loads == 1
    assert [log["event"] for log in logs] == ["no_similarity"]
    assert "no model in it" in logs[0]["detail"]


async def test_a_broken_encoder_is_used_once_it_is_mended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.0)
    world.broken = True
    assert await world.of("q 0", "p 0") is None
    world.broken = False
    assert await world.of("q 0", "p 0") == pytest.approx([1.0])
    assert world.counts == {"broken": 1, "known": 1}


async def test_a_description_that_is_none_is_a_broken_encoder(world: World) -> None:
    (world.folder / DESCRIPTION).write_text('{"name": "made-up", "pooling": "max"}')
    assert await world.of("q 0", "p 0") is None
    assert (world.loads, world.counts) == (0, {"broken": 1})


async def test_another_encoders_similarities_are_not_passed_off(world: World) -> None:
    assert await world.of("q 0", "p 0", name="another") is None
    assert world.loads == 0
    assert await world.of("q 0", "p 0") == pytest.approx([1.0])
    assert await world.of("q 0", "p 0", name="another") is None
    assert world.counts == {"other": 2, "known": 1}


async def test_calls_for_two_encoders_do_not_mix(world: World) -> None:
    found = await asyncio.gather(*(world.of("q 0", "p 0", name=name) for name in (NAME, "another", NAME)))
    assert found == [[pytest.approx(1.0)], None, [pytest.approx(1.0)]]


async def test_a_text_that_cannot_be_read_costs_no_other_its_similarity(world: World) -> None:
    world.encoder.poison = "p 13"
    found = await asyncio.gather(*(world.of("q 0", text) for text in ("p 0", "p 13", "p 60")))
    assert found == [[pytest.approx(1.0)], None, [pytest.approx(0.5)]]
    assert world.counts == {"known": 2, "failed": 1}


async def test_vectors_without_numbers_are_a_failure(world: World) -> None:
    assert await world.of("q 0", "p nan") is None
    assert world.counts == {"failed": 1}


async def test_a_verdict_does_not_wait_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.encoder.hold = threading.Event()
    monkeypatch.setattr(module, "_PATIENCE_S", 0.0)
    assert await world.of("q 0", "p 0") is None
    assert world.counts == {"late": 1}
    monkeypatch.setattr(module, "_PATIENCE_S", 30.0)
    world.encoder.hold.set()
    assert await world.of("q 0", "p 0") == pytest.approx([1.0])


async def test_who_is_cancelled_costs_no_other_the_answer(world: World) -> None:
    world.encoder.hold = threading.Event()
    first, second, third = (asyncio.create_task(world.of("q 0", f"p {angle}")) for angle in (0, 1, 60))
    await asyncio.sleep(0)
    second.cancel()
    world.encoder.hold.set()
    assert await first == pytest.approx([1.0])
    assert await third == pytest.approx([0.5], abs=1e-6)
    with pytest.raises(asyncio.CancelledError):
        await second
