"""The stage and the command: what is evaluated, and where its results go."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from training import records
from training.evaluate import metrics as metrics_of
from training.evaluate import models, report
from training.evaluate.collections import Collection, HeldOut, open_folder
from training.evaluate.collections.held_out import Grades
from training.evaluate.evaluation import Evaluation, Plan, Result
from training.evaluate.metrics import PRIMARY, Metrics, Role
from training.evaluate.models import Source
from training.model_job import EMBEDDED
from training.progress import Stopwatch
from training.recipe import Recipe
from training.records import Group, Judgement, Split
from training.stages import Progress, Report, RunFolder, Stage, config_hash
from whyrank.embedded import engine
from whyrank.embedded import state as states
from whyrank.embedded.cache import default_root, silent
from whyrank.embedded.model_host import manifest_path
from whyrank.prompt import Constraint
from whyrank.settings import Settings
from whyrank.types import FusionWeights, Mode

METRICS, REPORT, QUERIES = "metrics.json", "report.html", "queries.jsonl"


class EvaluateConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `evaluate` of a recipe."""

    collections: tuple[str, ...] = ()
    """Folders of judged collections that are reported on beside the run's held-out groups."""
    validation: tuple[str, ...] = ()
    """Folders on which fusion weights are chosen beside the run's validation groups. Never report on these."""
    held_out: bool = True
    """Report on the run's groups of split `test`."""
    grades: Grades = Grades.ROLES
    depth: int = 50
    queries: int = 50
    """Of each collection, by a seeded choice."""
    validation_queries: int = 100
    passage_tokens: int = 256
    seed: int = 7
    modes: tuple[Mode, ...] = (Mode.REASON, Mode.LABEL)
    weights: FusionWeights | None = None
    """Given weights are not chosen."""
    consistency_pairs: int = 24
    compare: bool = True
    """With the model that is served now."""
    model_url: str | None = None
    """A server, with /v1, that has the candidate; unset: this machine merges and serves it."""
    model_name: str | None = None
    """What that server knows it as."""
    current_url: str | None = None
    """A server of the current model as `WHYRANK_MODEL_MANIFEST` describes it; unset: this machine's registry has it."""
    cache: str | None = None
    """Folder of candidates, judgements and similarities for all evaluations; unset: in WhyRank's own cache."""


def run(run: RunFolder, config: EvaluateConfig, settings: Settings, recipe: Recipe, progress: Progress) -> Report:
    """Evaluate the run's adapter: evaluate/metrics.json, report.html, queries.jsonl.

    Raises StageError when there is no adapter or a model server stays away, BadRequestError for a collection or a
    configuration that is wrong, EngineError, RecordsError.
    """
    adapter = run.adapter()
    groups_path = _groups(run)
    groups = list(records.read(groups_path, Group))
    judgements = _judgements(run)
    collections: list[Collection] = [c for folder in config.collections for c in open_folder(Path(folder))]
    validation: list[Collection] = [c for folder in config.validation for c in open_folder(Path(folder))]
    if config.held_out:
        held_out = HeldOut("held-out", groups, judgements, split=Split.TEST, grades=config.grades)
        collections.insert(0, held_out)
    tuned = HeldOut("validation", groups, judgements, split=Split.VALIDATION, grades=config.grades)
    if any(tuned.qrels.values()):
        validation.insert(0, tuned)
    constraint = Constraint(recipe.constraint)
    candidate = models.of_adapter(
        adapter, recipe.base, constraint, settings, url=config.model_url, name=config.model_name
    )
    current = _current(config, settings) if config.compare else None
    plan = Plan(
        depth=config.depth,
        queries=config.queries,
        validation_queries=config.validation_queries,
        passage_tokens=config.passage_tokens,
        seed=config.seed,
        modes=config.modes,
        weights=config.weights,
        consistency_pairs=config.consistency_pairs,
    )
    folder = run.folder(Stage.EVALUATE)
    with Stopwatch(folder) as watch:
        evaluation = Evaluation(plan, settings, cache_folder(config.cache), watch.saving(progress))
        result = evaluation.run(collections, validation, candidate, current)
        write(result, folder)
    inputs = {"config": config_hash(config), groups_path.name: records.file_hash(groups_path)}
    inputs |= {f"{adapter.name}/{path.name}": records.file_hash(path) for path in sorted(adapter.iterdir())}
    outputs = {name: records.file_hash(folder / name) for name in (METRICS, REPORT, QUERIES)}
    return run.finish(Report(Stage.EVALUATE, inputs, outputs, _summary(result.metrics), round(watch.seconds, 3)))


def evaluate_collections(
    folders: Sequence[Path],
    out: Path,
    plan: Plan,
    settings: Settings,
    *,
    validation: Sequence[Path] = (),
    adapter: Path | None = None,
    model_url: str | None = None,
    engine_url: str | None = None,
    compare: bool = False,
    cache: Path | None = None,
    progress: Progress = silent,
) -> Metrics:
    """Evaluate a model on collection folders, outside of a run; the report goes into `out`.

    The model is `adapter` on the embedded base, else what answers at `model_url`, else the registry's current
    version, which is the shipped one where nothing was promoted. With `compare` and an adapter, that version is the
    current model beside it. Without `engine_url` an OpenSearch is started for as long as candidates are sought.
    Raises as `run`.
    """
    collections = [c for folder in folders for c in open_folder(folder)]
    tuning = [c for folder in validation for c in open_folder(folder)]
    if adapter is not None:
        base = EMBEDDED
        candidate = models.of_adapter(adapter, base, Constraint.QUOTE, settings, url=model_url, name=None)
    elif model_url is not None:
        candidate = models.of_server(Role.CANDIDATE, model_url, settings)
    else:
        candidate = models.of_version(Role.CANDIDATE, None, settings)
    current = models.of_version(Role.CURRENT, None, settings) if compare and adapter is not None else None
    starter = None if engine_url is not None else _throwaway_engine
    settings = settings if engine_url is None else settings.model_copy(update={"engine_url": engine_url})
    evaluation = Evaluation(plan, settings, cache or cache_folder(None), progress, starter)
    result = evaluation.run(collections, tuning, candidate, current)
    out.mkdir(parents=True, exist_ok=True)
    write(result, out)
    return result.metrics


def write(result: Result, folder: Path) -> None:
    """metrics.json, report.html and queries.jsonl of an evaluation."""
    records.write(folder / QUERIES, result.queries)
    report.write(result.metrics, result.judged, folder / REPORT)
    metrics_of.save(result.metrics, folder / METRICS)


def cache_folder(chosen: str | None) -> Path:
    """Where evaluations keep what they found."""
    return Path(chosen).expanduser() if chosen else default_root() / "evaluate"


@contextmanager
def _throwaway_engine() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="whyrank-evaluate-") as home, engine.start(Path(home)) as address:
        yield address


def _groups(run: RunFolder) -> Path:
    """With the teacher's own queries where there are some."""
    with_synthetic = run.path / Stage.SYNTHESIZE.value / "groups.jsonl"
    return with_synthetic if with_synthetic.exists() else run.path / Stage.MINE.value / "groups.jsonl"


def _judgements(run: RunFolder) -> list[Judgement]:
    path = run.path / Stage.SYNTHESIZE.value / "judgements.jsonl"
    return list(records.read(path, Judgement)) if path.exists() else []


def _current(config: EvaluateConfig, settings: Settings) -> Source:
    if config.current_url is not None:
        return models.of_server(Role.CURRENT, config.current_url, settings)
    version = models.of_version(Role.CURRENT, None, settings)
    return _served(version, settings) or version


def _served(version: Source, settings: Settings) -> Source | None:
    """The same model where this home's stack serves it already: no second server of it has to be loaded."""
    running, manifest = states.running(settings.home), manifest_path(settings.home)
    address = running.urls.get(states.MODEL) if running is not None and running.ready else None
    if address is None or not manifest.is_file():
        return None
    found = models.of_server(version.role, address, settings.model_copy(update={"model_manifest": manifest}))
    return found if found.manifest == version.manifest and found.revision == version.revision else None


def _summary(found: Metrics) -> dict[str, float | str]:
    """For the run's history: the primary measure of each order, and the comparisons."""
    figures: dict[str, float | str] = {
        f"{PRIMARY} {system.value}": round(means[PRIMARY], 4) for system, means in found.means.items()
    }
    for each in found.comparisons:
        figures[f"{each.system.value} - {each.baseline.value}"] = round(each.difference, 4)
        figures[f"{each.system.value} - {each.baseline.value}, low"] = round(each.low, 4)
    return figures | {"language model adds": found.lm_adds.value}
