"""The real bi-encoder, by itself and in a real worker before a stand-in for the model server."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from plugin_service.adapters.manifest import ManifestFile
from plugin_service.adapters.redis_link import VERDICT
from tests.contract.samples import new_key
from tests.integration.test_worker import Fleet, Valkey, Worker, until
from whyrank.bi_encoder import BATCH, DESCRIPTION, BiEncoder, describe
from whyrank.embedded import bi_encoder
from whyrank.embedded.cache import Cache
from whyrank.embedded.parts import free_port
from whyrank.errors import BadRequestError
from whyrank.records import ModelManifest, save_manifest
from whyrank.types import Pair, Passage, Verdict

QUERY = "why is the sky blue"
ANSWER = "Air scatters the short wavelengths of sunlight more than the long ones, so the sky looks blue."
OTHER = "Bread is baked from flour, water, salt and yeast."


@pytest.fixture(scope="module")
def folder() -> Path:
    return bi_encoder.install(Cache())


@pytest.fixture(scope="module")
def encoder(folder: Path) -> BiEncoder:
    return BiEncoder(folder)


# The encoder


def test_it_is_what_its_folder_says(folder: Path, encoder: BiEncoder) -> None:
    assert folder == bi_encoder.folder(Cache())
    assert describe(folder) == encoder.description == bi_encoder.ENCODER
    assert encoder.name == bi_encoder.ENCODER.name


def test_an_answer_is_nearer_to_its_query_than_another_text(encoder: BiEncoder) -> None:
    (query,) = encoder.queries([QUERY])
    answer, other = encoder.passages([ANSWER, OTHER])
    assert query @ answer > query @ other + 0.2


def test_a_texts_vector_does_not_depend_on_its_company(encoder: BiEncoder) -> None:
    texts = [f"{ANSWER} {'It rains. ' * (i % 7)}{i}" for i in range(BATCH + 3)]
    together = encoder.passages(texts)
    assert together.shape == (BATCH + 3, 384)
    assert together.dtype == np.float32
    assert np.allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    for number in (0, 6, BATCH + 2):
        assert np.allclose(encoder.passages([texts[number]])[0], together[number], atol=1e-4)


@pytest.mark.parametrize("text", ["", " ", "\x00", "🙂" * 3000, "word " * 3000])
def test_every_text_has_a_vector(encoder: BiEncoder, text: str) -> None:
    (vector,) = encoder.passages([text])
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)


def test_no_texts_have_no_vectors(encoder: BiEncoder) -> None:
    assert len(encoder.queries([])) == 0


@pytest.fixture
def damaged(folder: Path, tmp_path: Path) -> Path:
    """A bi-encoder whose weights are cut off."""
    copy = tmp_path / "damaged"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.onnx"))
    with (folder / "model.onnx").open("rb") as whole:
        (copy / "model.onnx").write_bytes(whole.read(100_000))
    return copy


def test_a_folder_that_is_none_is_refused_by_name(damaged: Path, tmp_path: Path) -> None:
    for path in (damaged, tmp_path / "nowhere"):
        with pytest.raises(BadRequestError, match=path.name) as error:
            BiEncoder(path)
        assert error.value.field == "bi_encoder"
    (damaged / DESCRIPTION).write_text('{"name": "x", "pooling": "max"}')
    with pytest.raises(BadRequestError, match="pooling"):
        describe(damaged)


# The worker


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop()


class Encoding:
    """A fleet whose manifest names the bi-encoder."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet = fleet
        self.manifest = folder / "manifest.json"
        created = datetime(2026, 1, 1, tzinfo=UTC)
        save_manifest(ModelManifest("m", "b", created, bi_encoder=bi_encoder.ENCODER.name), self.manifest)
        settings = fleet.settings.model_copy(update={"model_manifest": self.manifest})
        # As a sidecar computes it: from the manifest alone.
        fleet.revision = ManifestFile(settings).current().revision

    async def worker(self, folder: Path) -> Worker:
        worker = self.fleet.worker(model_manifest=self.manifest, bi_encoder=folder, worker_metrics_port=free_port())
        return await worker.ready()

    async def judged(self, *texts: str) -> list[Verdict]:
        some = [Pair(new_key(), QUERY, Passage(text)) for text in texts]
        await self.fleet.submit(*some)
        outcomes = await self.fleet.announced(*some)
        assert await self.fleet.cache.get_many([pair.key for pair in some]) == outcomes
        assert all(isinstance(outcome, Verdict) and outcome.label == 2 for outcome in outcomes)
        self.last = some
        return [outcome for outcome in outcomes if isinstance(outcome, Verdict)]

    async def kept_s(self) -> int:
        """How long the last verdict is kept, seconds."""
        return int(await self.fleet.link.client.ttl(VERDICT + self.last[-1].key))


@pytest.fixture
async def encoding(valkey: Valkey, tmp_path: Path) -> AsyncIterator[Encoding]:
    fleet = Fleet(valkey, tmp_path)
    await fleet.open()
    yield Encoding(fleet, tmp_path)
    await fleet.close()


async def metrics_of(worker: Worker) -> str:
    url = f"http://127.0.0.1:{worker.metrics_port}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.text()


async def test_a_verdict_carries_the_cosine(encoding: Encoding, folder: Path, encoder: BiEncoder) -> None:
    worker = await encoding.worker(folder)
    verdicts = await encoding.judged(ANSWER, OTHER)
    expected = encoder.passages([ANSWER, OTHER]) @ encoder.queries([QUERY])[0]
    assert [verdict.similarity for verdict in verdicts] == pytest.approx(expected.tolist(), abs=1e-4)
    assert await encoding.kept_s() > 3600
    assert 'whyrank_worker_similarities_total{result="known"} 2.0' in await metrics_of(worker)


async def test_a_worker_starts_without_its_encoder_and_uses_it_once_it_is_there(
    encoding: Encoding, folder: Path, tmp_path: Path
) -> None:
    later = tmp_path / "later"
    worker = await encoding.worker(later)
    assert [verdict.similarity for verdict in await encoding.judged(ANSWER, OTHER)] == [None, None]
    assert 0 < await encoding.kept_s() <= 3600
    later.symlink_to(folder)
    (verdict,) = await encoding.judged(ANSWER)
    assert verdict.similarity is not None
    assert [event["why"] for event in worker.events("no_similarity")] == ["absent"]


async def test_a_broken_encoder_costs_no_verdict(encoding: Encoding, damaged: Path) -> None:
    worker = await encoding.worker(damaged)
    assert [verdict.similarity for verdict in await encoding.judged(ANSWER, OTHER)] == [None, None]
    await until(lambda: len(worker.events("no_similarity")) == 1)
    (told,) = worker.events("no_similarity")
    assert (told["why"], told["bi_encoder"]) == ("broken", bi_encoder.ENCODER.name)
    assert 'whyrank_worker_similarities_total{result="broken"} 2.0' in await metrics_of(worker)


async def test_a_manifest_that_names_another_encoder_gets_no_cosines_of_this_one(
    encoding: Encoding, folder: Path
) -> None:
    created = datetime(2026, 1, 1, tzinfo=UTC)
    save_manifest(ModelManifest("m", "b", created, bi_encoder="another"), encoding.manifest)
    settings = encoding.fleet.settings.model_copy(update={"model_manifest": encoding.manifest})
    before, encoding.fleet.revision = encoding.fleet.revision, ManifestFile(settings).current().revision
    assert encoding.fleet.revision != before
    worker = await encoding.worker(folder)
    assert [verdict.similarity for verdict in await encoding.judged(ANSWER)] == [None]
    assert [event["why"] for event in worker.events("no_similarity")] == ["other"]
