"""The port Policies (fake, and the adapter on each engine), and the store that the adapter reads."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from plugin_service.adapters.policies import EnginePolicies
from plugin_service.rescoring.ports import Policies
from tests.fakes.engine import FakeEngine
from tests.fakes.policies import FakePolicies
from whyrank.engines import Engine, connect
from whyrank.engines import policies as store_module
from whyrank.engines.policies import PolicyStore
from whyrank.errors import BadRequestError, EngineError, EngineUnavailableError
from whyrank.settings import Settings
from whyrank.types import FusionWeights, Mode, Policy

DOCS = Policy(index="docs", fields=("title", "body"))
NEWS = Policy(
    index="news",
    fields=("text.en",),
    window=50,
    deadline_ms=0,
    mode=Mode.LABEL,
    passage_tokens=512,
    enabled=False,
    weights=FusionWeights(engine=0.25, relevance=0.5, similarity=0.25),
    similarity=False,
)


ENGINES = ["fake", "opensearch", "elasticsearch"]


@asynccontextmanager
async def _opened(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """An engine whose policy index is this test's own, and does not exist yet."""
    name = f".whyrank-test-{uuid.uuid4().hex[:12]}"
    if kind == "fake":
        engine: Engine = FakeEngine()
    else:
        engine = await connect(Settings(engine_url=request.getfixturevalue(f"{kind}_url")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "POLICY_INDEX", name)
        yield engine
    await engine.delete_index(name)
    await engine.close()


@pytest.fixture(params=ENGINES)
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    async with _opened(request.param, request) as engine:
        yield engine


class Kept(FakeEngine):
    """Counts closings."""

    closed = 0

    async def close(self) -> None:
        self.closed += 1


# The port, on the fake and on the adapter.


@dataclass
class Case:
    policies: Policies
    put: Callable[[Policy], Awaitable[None]]
    delete: Callable[[str], Awaitable[object]]
    refresh: Callable[[], Awaitable[None]]


@pytest.fixture(params=["fake port", *ENGINES])
async def case(request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    if request.param == "fake port":
        yield _fake_case(FakePolicies())
    else:
        async with _opened(request.param, request) as engine:
            store = PolicyStore(engine)
            adapter = EnginePolicies(lambda: _given(engine), refresh_s=3600)
            yield Case(adapter, store.put, store.delete, adapter.refresh)


def _fake_case(fake: FakePolicies) -> Case:
    async def put(policy: Policy) -> None:
        fake.policies[policy.index] = policy

    async def delete(index: str) -> None:
        fake.policies.pop(index, None)

    async def refresh() -> None: ...

    return Case(fake, put, delete, refresh)


async def _given(engine: Engine) -> Engine:
    return engine


async def test_no_policies_at_first(case: Case) -> None:
    await case.refresh()
    assert case.policies.lookup("docs") is None
    assert case.policies.all() == {}


async def test_a_change_is_seen_after_a_refresh(case: Case) -> None:
    await case.put(DOCS)
    await case.put(NEWS)
    await case.refresh()
    assert case.policies.lookup("docs") == DOCS
    assert case.policies.lookup("news") == NEWS
    assert case.policies.lookup("doc") is None
    assert case.policies.all() == {"docs": DOCS, "news": NEWS}
    changed = Policy(index="docs", fields=("title",), window=3)
    await case.put(changed)
    await case.delete("news")
    await case.refresh()
    assert case.policies.all() == {"docs": changed}


# The store.


async def test_the_store_keeps_every_field_of_a_policy(engine: Engine) -> None:
    store = PolicyStore(engine)
    assert await store.get("news") is None
    assert await store.list() == {}
    assert not await store.delete("news")
    for policy in (DOCS, NEWS):
        await store.put(policy)
        assert await store.get(policy.index) == policy
    assert await store.list() == {"docs": DOCS, "news": NEWS}
    assert await store.delete("news")
    assert not await store.delete("news")
    assert await store.list() == {"docs": DOCS}


async def test_a_broken_document_is_named_once_and_takes_no_other_down(engine: Engine) -> None:
    store = PolicyStore(engine)
    await store.put(DOCS)
    broken = {
        "no-policy": {"kind": "policy"},
        "bounds": {"kind": "policy", "policy": {"index": "bounds", "fields": ["a"], "window": 100_000}},
        "newer": {"kind": "policy", "policy": {"index": "newer", "fields": ["a"], "unheard_of": 1}},
        "other": {"kind": "policy", "policy": {"index": "another", "fields": ["a"]}},
        "text": {"kind": "policy", "policy": "off"},
    }
    for id_, document in broken.items():
        await engine.put_document(store_module.POLICY_INDEX, id_, document, refresh=True)
    with capture_logs() as logs:
        for _ in range(3):
            assert await store.list() == {"docs": DOCS}
        assert await store.get("bounds") is None
    assert sorted(line["index"] for line in logs) == sorted(broken)
    assert {line["log_level"] for line in logs} == {"warning"}
    assert "window" in next(line["reason"] for line in logs if line["index"] == "bounds")
    await store.put(Policy(index="bounds", fields=("a",)))
    assert set(await store.list()) == {"docs", "bounds"}


async def test_documents_of_another_kind_are_left_alone(engine: Engine) -> None:
    store = PolicyStore(engine)
    await store.put(DOCS)
    await engine.put_document(store_module.POLICY_INDEX, "note", {"kind": "note"}, refresh=True)
    with capture_logs() as logs:
        assert await store.list() == {"docs": DOCS}
    assert logs == []


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (Policy(index="", fields=("a",)), "index"),
        (Policy(index="docs", fields=()), "fields"),
        (Policy(index="docs", fields=("a",), window=0), "window"),
        (Policy(index="docs", fields=("a",), deadline_ms=60_001), "deadline_ms"),
    ],
)
async def test_a_policy_out_of_bounds_is_refused_by_its_field(policy: Policy, field: str) -> None:
    engine = FakeEngine()
    with pytest.raises(BadRequestError) as refused:
        await PolicyStore(engine).put(policy)
    assert refused.value.field == field
    assert engine.calls == 0


@pytest.mark.parametrize("partial", [{"timed_out": True}, {"_shards": {"failed": 1}}])
async def test_a_part_of_the_policies_is_not_taken_for_all(
    partial: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine()
    store = PolicyStore(engine)
    await store.put(DOCS)
    whole = engine.search

    async def search(index: str, body: object) -> dict[str, object]:
        return await whole(index, body) | partial  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "search", search)
    with pytest.raises(EngineError, match="part"):
        await store.list()


# The adapter's background.


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_changes_arrive_in_the_background(engine: Engine) -> None:
    store = PolicyStore(engine)
    policies = EnginePolicies(lambda: _given(engine), refresh_s=0.01)
    assert not policies.ready
    assert "not been read" in policies.problem
    await policies.start()
    await policies.start()  # harmless
    await _until(lambda: policies.ready)
    await store.put(DOCS)
    await _until(lambda: policies.lookup("docs") == DOCS)
    await store.delete("docs")
    await _until(lambda: policies.lookup("docs") is None)
    assert policies.problem == ""
    await policies.stop()
    await policies.stop()  # harmless


async def test_known_policies_outlive_the_engine() -> None:
    engine = Kept()
    await PolicyStore(engine).put(DOCS)
    policies = EnginePolicies(lambda: _given(engine), refresh_s=0.001)
    await policies.start()
    await _until(lambda: policies.ready)
    with capture_logs() as logs:
        engine.down = True
        await _until(lambda: policies.problem != "")
        with pytest.raises(EngineUnavailableError):
            await policies.refresh()
        assert policies.lookup("docs") == DOCS
        assert policies.ready
        engine.down = False
        await PolicyStore(engine).put(NEWS)
        await _until(lambda: policies.lookup("news") == NEWS)
        await _until(lambda: policies.problem == "")
    assert [line["event"] for line in logs] == ["policies_not_read", "policies_read"]
    await policies.stop()
    assert engine.closed == 1
    assert policies.lookup("docs") == DOCS


async def test_the_sidecar_may_start_before_its_engine() -> None:
    engine = FakeEngine()
    await PolicyStore(engine).put(DOCS)
    attempts, up = 0, False

    async def connect_late() -> Engine:
        nonlocal attempts
        attempts += 1
        if not up:
            raise EngineUnavailableError("no engine answers at http://engine")
        return engine

    policies = EnginePolicies(connect_late, refresh_s=0.001)
    with capture_logs() as logs:
        await policies.start()
        await _until(lambda: attempts >= 3)
        assert not policies.ready
        assert policies.problem == "no engine answers at http://engine"
        up, failed = True, attempts
        await _until(lambda: policies.ready)
    assert policies.lookup("docs") == DOCS
    assert attempts == failed + 1
    assert [line["event"] for line in logs] == ["policies_not_read", "policies_read"]
    await policies.stop()


async def test_a_fault_of_ours_is_logged_and_reading_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine()
    whole, faults = engine.search, 0

    async def search(index: str, body: dict[str, object]) -> dict[str, object]:
        nonlocal faults
        faults += 1
        if faults <= 3:
            raise ZeroDivisionError("ours")
        return await whole(index, body)

    await PolicyStore(engine).put(DOCS)
    monkeypatch.setattr(engine, "search", search)
    policies = EnginePolicies(lambda: _given(engine), refresh_s=0.001)
    with capture_logs() as logs:
        await policies.start()
        await _until(lambda: policies.lookup("docs") == DOCS)
    assert [line["event"] for line in logs] == ["policies_not_read", "policies_read"]
    assert isinstance(logs[0]["exc_info"], ZeroDivisionError)
    await policies.stop()
