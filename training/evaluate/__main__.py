"""`python -m training.evaluate FOLDER...`: evaluate a model on judged collections, and write the report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from training.evaluate.evaluation import Plan
from training.evaluate.report import as_text
from training.evaluate.stage import REPORT, evaluate_collections
from whyrank.errors import WhyRankError
from whyrank.settings import Settings
from whyrank.types import FusionWeights, Mode

app = typer.Typer(add_completion=False)


@app.command()
def main(  # noqa: PLR0917  a command's options are its function's arguments
    folders: Annotated[list[Path], typer.Argument(exists=True, file_okay=False, help="BEIR, BRIGHT or TREC folders.")],
    out: Annotated[Path, typer.Option(help="Folder of metrics.json, report.html and queries.jsonl.")],
    queries: Annotated[int | None, typer.Option(min=2, help="Queries of each collection; all when unset.")] = None,
    depth: Annotated[int, typer.Option(min=1, max=1000, help="Top hits judged for each query.")] = 50,
    passage_tokens: Annotated[int, typer.Option(min=16, help="Token budget of a passage.")] = 256,
    seed: Annotated[int, typer.Option(help="Chooses the queries.")] = 7,
    modes: Annotated[
        str, typer.Option(help="`reason`, `label`, both with a comma, or `none`: without the model.")
    ] = "reason",
    weights: Annotated[
        str | None, typer.Option(help="Of engine, relevance and similarity, as 0.3,0.2,0.5; unset: the manifest's.")
    ] = None,
    validation: Annotated[
        list[Path] | None, typer.Option(exists=True, file_okay=False, help="Choose the weights on this folder.")
    ] = None,
    validation_queries: Annotated[int | None, typer.Option(min=2, help="Queries of each of those.")] = 100,
    consistency: Annotated[int, typer.Option(min=0, help="Pairs judged again with the query rephrased.")] = 24,
    adapter: Annotated[Path | None, typer.Option(exists=True, file_okay=False, help="A peft adapter's folder.")] = None,
    model_url: Annotated[str | None, typer.Option(help="A model server, with /v1; unset: one is started.")] = None,
    engine_url: Annotated[str | None, typer.Option(help="An engine; unset: one is started.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of what earlier evaluations found.")] = None,
    compare: Annotated[bool, typer.Option(help="Compare the adapter with the model that is current.")] = False,
) -> None:
    """Judge what is not judged yet, then print and write the figures: with other weights, nothing is judged again."""
    plan = Plan(
        depth=depth,
        queries=queries,
        validation_queries=validation_queries,
        passage_tokens=passage_tokens,
        seed=seed,
        modes=_modes(modes),
        weights=_weights(weights),
        consistency_pairs=consistency,
    )
    try:
        metrics = evaluate_collections(
            folders,
            out,
            plan,
            Settings(),
            validation=validation or (),
            adapter=adapter,
            model_url=model_url,
            engine_url=engine_url,
            compare=compare,
            cache=cache,
            progress=_told(),
        )
    except WhyRankError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(as_text(metrics))
    typer.echo(f"\n{metrics.machine}; report: {out / REPORT}")


def _told() -> Callable[[str, float | None], None]:
    """What is being done, once for each thing; how far it is, a bar shows."""
    told: set[str] = set()

    def tell(what: str, _share: float | None) -> None:
        if what not in told:
            told.add(what)
            typer.echo(what, err=True)

    return tell


def _modes(words: str) -> tuple[Mode, ...]:
    """None for `none`: engine and bi-encoder are compared, and no language model is asked."""
    if words.strip() == "none":
        return ()
    try:
        found = tuple(dict.fromkeys(Mode(word.strip()) for word in words.split(",")))
    except ValueError as error:
        raise typer.BadParameter(f"{words!r}: `reason`, `label`, or both", param_hint="--modes") from error
    if Mode.REASON not in found:
        raise typer.BadParameter("`reason` is what is served, and must be in it", param_hint="--modes")
    return found


def _weights(words: str | None) -> FusionWeights | None:
    if words is None:
        return None
    try:
        engine, relevance, similarity = (float(word) for word in words.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{words!r}: three numbers with commas", param_hint="--weights") from error
    return FusionWeights(engine=engine, relevance=relevance, similarity=similarity)


if __name__ == "__main__":
    app()
