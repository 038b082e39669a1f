"""The stage `promote`: the run's adapter becomes a version, and the version current if the gate lets it."""

from __future__ import annotations

from datetime import datetime

import msgspec

from training import history, records
from training.evaluate import metrics as metrics_of
from training.evaluate.metrics import PRIMARY, Metrics, Role, System
from training.model_job import EMBEDDED
from training.progress import Stopwatch
from training.recipe import Recipe
from training.registry.config import PromoteConfig
from training.registry.promotion import promote, registry_of
from training.stages import Progress, Report, RunFolder, Stage, StageError, config_hash
from whyrank.embedded import model_server
from whyrank.errors import BadRequestError
from whyrank.prompt import Constraint
from whyrank.records import History, ModelManifest
from whyrank.settings import Settings

METRICS = "metrics.json"


def run(run: RunFolder, config: PromoteConfig, settings: Settings, recipe: Recipe, progress: Progress) -> Report:
    """Add the run's adapter to the registry, decide, and promote it or say why not.

    A refusal is a finished stage whose report says so. Raises StageError without an adapter or an evaluation,
    RegistryError for a registry that is damaged.
    """
    adapter, evaluation = run.adapter(), run.path / Stage.EVALUATE.value / METRICS
    try:
        metrics = metrics_of.load(evaluation)
    except BadRequestError as error:
        raise StageError(f"{error}; run the stage evaluate first") from error
    registry = registry_of(settings, recipe.base)
    with Stopwatch(run.folder(Stage.PROMOTE)) as watch:
        progress("adding the version to the registry", None)
        name = registry.add(adapter, manifest_of(run, recipe, metrics, registry.current()), evaluation)
        outcome = promote(registry, name, config, settings, progress)
    figures = {
        "version": name,
        "action": outcome.action,
        "before": outcome.before,
        "served": outcome.served,
        "words": outcome.words,
        "checks": [msgspec.to_builtins(check) for check in outcome.checks],
    }
    inputs = {"config": config_hash(config), METRICS: records.file_hash(evaluation)}
    inputs |= {f"adapter/{path.name}": records.file_hash(path) for path in sorted(adapter.iterdir()) if path.is_file()}
    return run.finish(Report(Stage.PROMOTE, inputs, {}, figures, round(watch.seconds, 3)))


def manifest_of(run: RunFolder, recipe: Recipe, metrics: Metrics, parent: str | None) -> ModelManifest:
    """The version's manifest: how it is served, and its whole history. The registry fills in name and hashes."""
    candidate = metrics.models[Role.CANDIDATE]
    told = History(
        data=_data(run),
        recipe=recipe.name,
        recipe_hash=config_hash(recipe),
        commit=history.commit() or "",
        parent=parent,
        metrics=summary(metrics),
    )
    return ModelManifest(
        name=recipe.name,
        base=model_server.BASE if recipe.base == EMBEDDED else recipe.base,
        created=datetime.fromisoformat(metrics.created),
        weights=candidate.weights,
        constraint=Constraint(recipe.constraint),
        bi_encoder=metrics.encoder or None,
        history=told,
    )


def summary(metrics: Metrics) -> dict[str, float]:
    """The figures that a version carries: the ranking's, and those of its explanations by mode."""
    figures = {f"{PRIMARY}, {system.value}": means[PRIMARY] for system, means in metrics.means.items()}
    for baseline in (System.ENGINE, System.CURRENT_ALL):
        if (found := metrics.comparison(System.ALL, baseline)) is not None:
            figures |= {
                f"{PRIMARY} above {baseline.value}": found.difference,
                f"{PRIMARY} above {baseline.value}, low": found.low,
                f"{PRIMARY} above {baseline.value}, high": found.high,
            }
    for mode, told in metrics.models[Role.CANDIDATE].explanations.items():
        figures |= {
            f"parse rate, {mode.value}": told.parse_rate,
            f"quotes verbatim, {mode.value}": told.quotes_verbatim,
        }
        if told.agreement is not None:
            figures[f"agreement (kappa), {mode.value}"] = told.agreement.weighted_kappa
        if told.consistency is not None:
            figures[f"labels consistent, {mode.value}"] = told.consistency.equal_labels
    return figures


def _data(run: RunFolder) -> dict[str, str]:
    """Hashes of the record files that the stages before made, by stage and file."""
    found: dict[str, str] = {}
    for stage in (Stage.MINE, Stage.SYNTHESIZE, Stage.DISTILL, Stage.REFINE):
        report = run.report(stage)
        if report is not None:
            found |= {
                f"{stage.value}/{name}": value for name, value in report.outputs.items() if name.endswith(".jsonl")
            }
    return found
