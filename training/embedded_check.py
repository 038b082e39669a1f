"""`python -m training.embedded_check`: whether the shipped model ranks its held-out queries as its evaluation claims.

The build keeps those queries with their candidates, and what was measured on each, in EVIDENCE.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from training.evaluate import models
from training.evaluate.collections.held_out import HeldOut
from training.evaluate.evaluation import Evaluation, Plan, QueryValues
from training.evaluate.metrics import PRIMARY, Role, System
from training.evaluate.stage import EvaluateConfig
from training.recipe import configs, load
from training.records import Group, Split, read
from training.stages import Stage
from whyrank.console import err, out
from whyrank.embedded import model_server
from whyrank.embedded.cache import silent
from whyrank.errors import WhyRankError
from whyrank.settings import Settings
from whyrank.types import FusionWeights, Mode

EVIDENCE = Path(__file__).resolve().parent.parent / "tests" / "data" / "embedded_model"
GROUPS, QUERIES = "held_out.jsonl", "queries.jsonl"
COLLECTION = "held-out"
SYSTEMS = (System.ENGINE, System.ENCODER, System.LM, System.ALL)
TOLERANCE = 0.03
"""Of the mean nDCG@10: another processor rounds otherwise, and now and then two neighbours change places."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Finding(msgspec.Struct, frozen=True):
    """One system's mean over the same queries, as claimed and as found now."""

    system: System
    claimed: float
    found: float

    @property
    def holds(self) -> bool:
        """Whether they are the same, but for rounding."""
        return abs(self.claimed - self.found) <= TOLERANCE


def check(settings: Settings, queries: int | None = None, model_url: str | None = None) -> list[Finding]:
    """Evaluate the shipped model anew on `queries` of its held-out queries (all for None), beside its claims.

    It is merged and served here, unless `model_url` has a server of it that `settings.model_manifest` describes.
    Raises RecordsError for evidence that is not what its manifests say, RegistryError for a model that is not, and
    what an evaluation raises.
    """
    with tempfile.TemporaryDirectory(prefix="whyrank-check-") as scratch:
        home = settings.model_copy(update={"home": Path(scratch)})
        if model_url is None:
            candidate = models.of_version(Role.CANDIDATE, None, home)
        else:
            candidate = models.of_server(Role.CANDIDATE, model_url, settings)
        groups = read(EVIDENCE / GROUPS, Group)
        plan = _plan(queries, candidate.manifest.weights)
        evaluation = Evaluation(plan, home, Path(scratch) / "cache", silent)
        held_out = HeldOut(COLLECTION, groups, (), split=Split.TEST)
        result = evaluation.run([held_out], [], candidate, None)
    claimed = {each.query: each.values for each in read(EVIDENCE / QUERIES, QueryValues)}
    found = {each.query: each.values for each in result.queries}
    return [Finding(system, _mean(claimed, found, system), _mean(found, found, system)) for system in SYSTEMS]


def _plan(queries: int | None, weights: FusionWeights) -> Plan:
    recipe = load("embedded")
    config = configs(recipe)[Stage.EVALUATE]
    assert isinstance(config, EvaluateConfig)  # noqa: S101  what `configs` gives for this stage
    return Plan(
        depth=config.depth,
        queries=config.queries if queries is None else queries,
        passage_tokens=config.passage_tokens,
        seed=config.seed,
        modes=(Mode.REASON,),
        weights=weights,
        consistency_pairs=0,
    )


def _mean(
    values: Mapping[str, Mapping[System, Mapping[str, float]]], of: Mapping[str, object], system: System
) -> float:
    return sum(values[query][system][PRIMARY] for query in of) / len(of)


@app.command()
def main(queries: Annotated[int | None, typer.Option(min=2, help="How many of them; all when unset.")] = None) -> None:
    """Print claims beside findings; exit code 1 where they differ."""
    try:
        with err.status(f"the shipped model judges its held-out queries ({model_server.SHIPPED.name})"):
            findings = check(Settings(), queries)
    except WhyRankError as error:
        err.print(f"[red]{error}[/]")
        raise typer.Exit(1) from error
    table = Table("order", f"{PRIMARY} claimed", "found")
    for each in findings:
        table.add_row(each.system.value, f"{each.claimed:.3f}", f"{each.found:.3f}")
    out.print(table)
    if not all(each.holds for each in findings):
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
