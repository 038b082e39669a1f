"""The gate as a table, and the stage `promote` on a run's folder."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from training import registry as registries
from training.evaluate import metrics as metrics_of
from training.evaluate.metrics import (
    PRIMARY,
    Agreement,
    Answer,
    Comparison,
    Consistency,
    Explanations,
    Metrics,
    Model,
    Role,
    System,
)
from training.recipe import Recipe
from training.registry import PromoteConfig, decide
from training.registry.stage import summary
from training.stages import Report, RunFolder, Stage, StageError
from whyrank.embedded.cache import silent
from whyrank.registry import Action, Registry, served_name
from whyrank.settings import Settings
from whyrank.types import FusionWeights, Mode

RECIPE = Recipe("test", "meta/tiny")
BOUNDS = PromoteConfig()
CURRENT = "v1"


def comparison(system: System, baseline: System, difference: float, low: float, high: float) -> Comparison:
    return Comparison(system, baseline, PRIMARY, 0.5 + difference, 0.5, difference, low, high, 0.01, 0.01, 100)


def explanations(
    mode: Mode = Mode.REASON,
    parse: float = 0.995,
    verbatim: float = 0.98,
    kappa: float | None = 0.4,
    consistent: float | None = 0.9,
) -> Explanations:
    confusion = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    agreement = None if kappa is None else Agreement(100, 0.5, kappa, kappa, confusion)
    consistency = None if consistent is None else Consistency(50, consistent, 0.05)
    return Explanations(mode, 100, parse, {}, 90, verbatim, 0.9, (1, 1, 1), agreement, None, consistency)


def model(role: Role, name: str, *told: Explanations) -> Model:
    return Model(role, name, "rev", "tiny", None, FusionWeights(0.3, 0.3, 0.4), {each.mode: each for each in told})


def metrics(
    *,
    gain: tuple[float, float, float] = (0.03, 0.01, 0.05),
    over_engine: tuple[float, float, float] = (0.08, 0.05, 0.1),
    ours: tuple[Explanations, ...] = (explanations(),),
    theirs: tuple[Explanations, ...] = (explanations(),),
    compared: str | None = CURRENT,
) -> Metrics:
    models = {Role.CANDIDATE: model(Role.CANDIDATE, "candidate", *ours)}
    comparisons = [comparison(System.ALL, System.ENGINE, *over_engine)]
    if compared is not None:
        models[Role.CURRENT] = model(Role.CURRENT, compared, *theirs)
        comparisons.append(comparison(System.ALL, System.CURRENT_ALL, *gain))
    return Metrics(
        created="2026-11-23T12:00:00+00:00",
        machine="test",
        depth=50,
        passage_tokens=256,
        models=models,
        collections=(),
        means={System.ENGINE: {PRIMARY: 0.5}, System.ALL: {PRIMARY: 0.58}},
        comparisons=tuple(comparisons),
        weights={},
        encoder="small",
        lm_adds=Answer.YES,
    )


GOOD = metrics()


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (GOOD, None),
        (metrics(gain=(0.03, 0.0, 0.05)), "not surely better than 0.500 of the current model"),
        (metrics(gain=(0.02, -0.01, 0.05)), "95% interval -0.010 to +0.050"),
        (metrics(gain=(-0.02, -0.04, -0.01)), "worse than 0.500 of the current model"),
        (metrics(gain=(float("nan"),) * 3), "not surely better"),
        (metrics(over_engine=(-0.01, -0.03, 0.01)), "of the engine"),
        (metrics(ours=(explanations(parse=0.98),)), "answers that can be read: 98.0%, at least 99.0%"),
        (metrics(ours=(explanations(parse=0.98),), theirs=(explanations(parse=0.98),)), None),
        (metrics(ours=(explanations(parse=0.9),), theirs=(explanations(parse=0.98),)), "at least 97.5%"),
        (metrics(ours=(explanations(parse=float("nan")),)), "answers that can be read"),
        (metrics(ours=(explanations(verbatim=0.96),)), "quotes that stand in the document: 96.0%, at least 97.0%"),
        (metrics(ours=(explanations(kappa=0.3),)), "agreement with the judgements (weighted kappa): 0.300"),
        (metrics(ours=(explanations(kappa=0.39),)), None),
        (metrics(ours=(explanations(kappa=None),)), "agreement was not measured"),
        (metrics(ours=(explanations(consistent=0.8),)), "put in other words: 0.800"),
        (metrics(ours=(explanations(consistent=None),)), "consistency was not measured"),
        (metrics(theirs=(explanations(kappa=None, consistent=None),)), None),
        (metrics(ours=(explanations(Mode.LABEL),)), "its explanations were not evaluated"),
        (metrics(ours=(explanations(), explanations(Mode.LABEL, parse=0.5))), "mode label: answers that can be read"),
        (metrics(compared="v0"), "compared with v0, but v1 is current now"),
        (metrics(compared=None), "not compared with the current v1"),
        (replace(GOOD, comparisons=()), "was not compared with the current model"),
        (replace(GOOD, models={}), "no candidate"),
    ],
)
def test_the_gate(found: Metrics, reason: str | None) -> None:
    decision = decide(found, BOUNDS, CURRENT)
    assert decision.accepted == (reason is None), decision.reasons
    assert reason is None or any(reason in words for words in decision.reasons), decision.reasons


def test_few_queries_show_nothing() -> None:
    assert not decide(GOOD, replace(BOUNDS, min_queries=101), CURRENT).accepted
    assert decide(GOOD, replace(BOUNDS, min_queries=100), CURRENT).accepted


def test_the_first_version_is_held_against_the_engine() -> None:
    assert decide(metrics(compared=None), BOUNDS, None).accepted
    refused = decide(metrics(compared=None, over_engine=(0.01, -0.01, 0.03)), BOUNDS, None)
    assert any("the engine's order" in words for words in refused.reasons)


def test_every_reason_is_told() -> None:
    bad = metrics(gain=(0, -0.1, 0.1), ours=(explanations(parse=0.5, verbatim=0.5, kappa=0.0, consistent=0.0),))
    assert len(decide(bad, BOUNDS, CURRENT).reasons) == 5


def test_a_version_carries_its_figures() -> None:
    figures = summary(GOOD)
    assert figures["nDCG@10, all"] == 0.58
    assert figures["nDCG@10 above current all, low"] == 0.01
    assert figures["quotes verbatim, reason"] == 0.98


class World:
    """A run with an adapter and an evaluation, in a home without a model server."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.settings = Settings(home=home)
        self.run = RunFolder(home / "training" / "runs" / "one")
        self.registry = registries.registry_of(self.settings, RECIPE.base)

    def trained(self, content: str, found: Metrics) -> None:
        adapter = self.run.folder(Stage.DISTILL) / "adapter"
        adapter.mkdir(exist_ok=True)
        (adapter / "adapter_config.json").write_text("{}")
        (adapter / "adapter_model.safetensors").write_text(content)
        metrics_of.save(found, self.run.folder(Stage.EVALUATE) / "metrics.json")

    def promote(self, **values: object) -> Report:
        return registries.run(self.run, PromoteConfig(**values), self.settings, RECIPE, silent)  # type: ignore[arg-type]

    def first(self) -> str:
        """A version that is current."""
        self.trained("first", metrics(compared=None))
        return str(self.promote().figures["version"])


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_an_accepted_version_is_promoted_and_carries_its_history(world: World) -> None:
    mined = Report(Stage.MINE, {}, {"groups.jsonl": "aa"}, {}, 1.0)
    world.run.finish(mined)
    name = world.first()
    assert world.registry.current() == name
    version = world.registry.load(name)
    history = version.manifest.history
    assert history is not None
    assert history.data == {"mine/groups.jsonl": "aa"}
    assert (history.recipe, len(history.recipe_hash)) == ("test", 16)
    assert history.metrics == summary(metrics(compared=None))
    assert version.manifest.weights == FusionWeights(0.3, 0.3, 0.4)
    assert version.manifest.base == "meta/tiny"
    assert version.evaluation is not None
    assert metrics_of.load(version.evaluation) == metrics(compared=None)
    assert served_name(version.manifest).startswith(f"whyrank-{name}-")
    report = world.run.report(Stage.PROMOTE)
    assert report is not None
    assert (report.figures["action"], report.figures["served"]) == ("promoted", False)
    assert "at the next `whyrank up`" in report.figures["words"]


def test_the_next_one_has_the_current_one_as_its_parent(world: World) -> None:
    first = world.first()
    world.trained("second", metrics(compared=first))
    report = world.promote()
    assert (report.figures["action"], report.figures["before"]) == ("promoted", first)
    history = world.registry.load(report.figures["version"]).manifest.history
    assert history is not None
    assert history.parent == first


def test_a_refusal_is_a_finished_stage_that_says_why(world: World) -> None:
    first = world.first()
    world.trained("second", metrics(compared=first, gain=(0.0, -0.1, 0.1)))
    report = world.promote()
    assert report.figures["action"] == "refused"
    assert "not surely better" in report.figures["words"]
    assert world.registry.current() == first
    assert world.run.report(Stage.PROMOTE) == report
    world.promote()  # killed after the refusal, and run again
    assert [event.action for event in world.registry.history()] == [Action.PROMOTE, Action.REFUSE]


def test_a_written_reason_passes_the_gate_and_is_kept(world: World) -> None:
    first = world.first()
    world.trained("second", metrics(compared=first, gain=(0.0, -0.1, 0.1)))
    report = world.promote(force="the judgements are wrong")
    assert report.figures["action"] == "forced"
    assert world.registry.current() == report.figures["version"]
    event = world.registry.history()[-1]
    assert "the judgements are wrong" in event.reason
    assert "not surely better" in event.reason


def test_a_version_can_run_in_shadow_first(world: World) -> None:
    first = world.first()
    world.trained("second", metrics(compared=first))
    report = world.promote(shadow_first=True)
    assert report.figures["action"] == "shadow"
    assert (world.registry.current(), world.registry.shadowed()) == (first, report.figures["version"])


def test_a_stage_killed_after_it_promoted_says_so_when_it_runs_again(world: World) -> None:
    name = world.first()
    again = world.promote()
    assert (again.figures["version"], again.figures["action"]) == (name, "current")
    assert len(world.registry.history()) == 1
    assert world.registry.names() == [name]


def test_without_an_evaluation_there_is_nothing_to_decide(world: World) -> None:
    world.trained("first", GOOD)
    (world.run.path / "evaluate" / "metrics.json").unlink()
    with pytest.raises(StageError, match="evaluate"):
        world.promote()
    (world.run.path / "evaluate" / "metrics.json").write_text("{")
    with pytest.raises(StageError, match=r"metrics\.json"):
        world.promote()


def test_the_embedded_recipe_has_the_shipped_and_the_base_model_to_begin_with(tmp_path: Path) -> None:
    embedded = registries.registry_of(Settings(home=tmp_path))
    assert isinstance(embedded, Registry)
    assert "base" in embedded.names()
    assert embedded.current() in embedded.names()
    assert msgspec.json.encode(embedded.load("base").manifest)
