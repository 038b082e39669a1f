"""The model client and the model status over HTTP: a stand-in for faults, the real server for the truth."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from plugin_service.adapters.manifest import ManifestFile
from plugin_service.adapters.model_status import PolledModelStatus
from tests.integration.stand_in import StandIn
from whyrank import verdict
from whyrank.errors import ModelUnavailableError
from whyrank.model_client import HttpTransport, ModelClient
from whyrank.prompt import Constraint
from whyrank.records import ModelManifest, save_manifest
from whyrank.settings import Settings
from whyrank.types import FusionWeights, Mode, Passage, Verdict

PASSAGE = Passage("The sky is blue because the air scatters blue light more than red light.")


@pytest.fixture
async def stand_in() -> AsyncIterator[StandIn]:
    server = await StandIn().start()
    yield server
    await server.stop()


async def until_status(status: PolledModelStatus, ready: bool, words: str = "") -> None:
    async with asyncio.timeout(30):
        while status.current().ready is not ready or words not in status.current().reason:
            await asyncio.sleep(0.01)


async def test_answers_arrive_over_one_pool_with_the_key(stand_in: StandIn) -> None:
    async with HttpTransport(stand_in.url, "secret", 10) as transport:
        model = ModelClient(transport, "whyrank", 32)
        answers = await asyncio.gather(*(model.ask("why", PASSAGE, Mode.REASON, Constraint.NONE) for _ in range(20)))
    parsed = {
        verdict.parse(a.text, a.tokens, passage=a.passage, mode=Mode.REASON, model_revision="r").label for a in answers
    }
    assert parsed == {2}
    assert set(stand_in.keys) == {"Bearer secret"}


async def test_a_server_that_does_not_answer_in_time_may_be_the_prompts_fault(stand_in: StandIn) -> None:
    stand_in.hold = asyncio.Event()
    async with HttpTransport(stand_in.url, None, 0.1) as transport:
        with pytest.raises(ModelUnavailableError) as raised:
            await ModelClient(transport, "whyrank", 32).ask("why", PASSAGE, Mode.REASON, Constraint.NONE)
    assert raised.value.suspect
    stand_in.hold.set()


async def test_a_server_that_is_not_there_is_not(stand_in: StandIn) -> None:
    await stand_in.stop()
    async with HttpTransport(stand_in.url, None, 5) as transport:
        with pytest.raises(ModelUnavailableError) as raised:
            await ModelClient(transport, "whyrank", 32).ask("why", PASSAGE, Mode.REASON, Constraint.NONE)
    assert not raised.value.suspect


async def test_the_status_follows_the_server(stand_in: StandIn) -> None:
    status = PolledModelStatus(Settings(model_url=stand_in.url), ready_s=0.02, not_ready_s=0.02)
    await status.start()
    assert status.current().ready
    stand_in.status = 503
    await until_status(status, False, "503")
    port = stand_in.port
    await stand_in.stop()
    await until_status(status, False, "cannot be reached")
    stand_in.status = 200
    await stand_in.start(port)
    await until_status(status, True)
    await status.stop()


async def test_a_server_of_another_model_is_not_ready(stand_in: StandIn) -> None:
    status = PolledModelStatus(Settings(model_url=stand_in.url, model_name="other"))
    await status.start()
    assert not status.current().ready
    assert "serves whyrank, not other" in status.current().reason
    await status.stop()


async def test_the_manifest_is_read_again_when_it_changes(stand_in: StandIn, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    settings = Settings(model_url=stand_in.url, model_manifest=path)
    status = PolledModelStatus(settings, ready_s=0.02, not_ready_s=0.02)
    await status.start()
    assert not status.current().ready
    assert "manifest.json" in status.current().reason
    manifest = ModelManifest("first", "base", "2026-01-01T00:00:00Z", weights=FusionWeights(0.25, 0.75))
    save_manifest(manifest, path)
    await until_status(status, True)
    first = status.current()
    assert first.weights == FusionWeights(0.25, 0.75)
    assert first.revision == ManifestFile(settings).current().revision
    path.write_text("{")
    await asyncio.sleep(0.1)
    assert status.current() == first
    save_manifest(ModelManifest("second", "base", "2026-01-01T00:00:00Z"), path)
    async with asyncio.timeout(30):
        while status.current().revision == first.revision:
            await asyncio.sleep(0.01)
    await status.stop()


@pytest.mark.real_model
@pytest.mark.parametrize("mode", list(Mode))
async def test_the_real_server_is_read_right(model_url: str, mode: Mode) -> None:
    status = PolledModelStatus(Settings(model_url=model_url))
    await status.start()
    assert status.current().ready, status.current().reason
    await status.stop()
    async with HttpTransport(model_url, None, 120) as transport:
        model = ModelClient(transport, "whyrank", 24)
        answer = await model.ask("why is the sky blue", PASSAGE, mode, Constraint.QUOTE)
        long = Passage(PASSAGE.text * 150)
        halved = await model.ask("why is the sky blue", long, Mode.LABEL, Constraint.LABEL)
    outcome = verdict.parse(answer.text, answer.tokens, passage=answer.passage, mode=mode, model_revision="r")
    assert isinstance(outcome, Verdict), outcome
    assert all(0 < p < 1 for p in outcome.label_probabilities)
    assert outcome.grounded == (mode is Mode.REASON)
    assert halved.passage.truncated
