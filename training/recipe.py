"""A recipe: one TOML file with a section for each stage of a training run. `training/recipes/` has ours."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from training.stages import STAGES, Stage, StageCode
from whyrank.errors import BadRequestError

RECIPES = Path(__file__).parent / "recipes"

Config = TypeVar("Config", bound=msgspec.Struct)


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file as it is; `section` makes a stage's configuration of it."""

    name: str
    base: str
    """The model that is trained: `embedded` for the one on this machine, else a folder or a Hugging Face name."""
    constraint: str = "quote"
    """How answers are rendered and decoded (whyrank.prompt.Constraint)."""
    skip: tuple[Stage, ...] = ()
    """Stages that are left out, as `["refine"]`."""
    learn: Literal["all", "new"] = "all"
    """What a scheduled run learns from: the whole index (what a teacher was paid for before is not paid for again),
    or only pages that are new or changed since the last run."""
    mine: dict[str, Any] = {}
    synthesize: dict[str, Any] = {}
    distill: dict[str, Any] = {}
    refine: dict[str, Any] = {}
    evaluate: dict[str, Any] = {}
    promote: dict[str, Any] = {}


def load(name_or_path: str | Path) -> Recipe:
    """A recipe of ours by its name, or a file. Raises BadRequestError whose `field` names what is wrong."""
    path = Path(name_or_path)
    if not path.suffix:
        path = RECIPES / f"{name_or_path}.toml"
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise BadRequestError("recipe", f"cannot read {path}: {error.strerror}; ours are {known}") from error
    except tomllib.TOMLDecodeError as error:
        raise BadRequestError("recipe", f"{path}: {error}") from error
    return _convert(raw, Recipe, str(path))


def section(recipe: Recipe, stage: Stage, kind: type[Config], overrides: Mapping[str, Any] | None = None) -> Config:
    """A stage's configuration. Raises BadRequestError naming the field, as `distill.learning_rate`."""
    values = {**getattr(recipe, stage.value), **(overrides or {})}
    return _convert(values, kind, stage.value)


def configs(recipe: Recipe, stages: Mapping[Stage, StageCode] = STAGES) -> dict[Stage, msgspec.Struct]:
    """The configuration of every stage that the recipe runs, so that a wrong key is known before the first stage.

    Raises BadRequestError for a wrong key, StageError for a stage that cannot be imported.
    """
    wanted = [stage for stage in stages if stage not in recipe.skip]
    try:
        return {stage: section(recipe, stage, stages[stage].config_type()) for stage in wanted}
    except BadRequestError as error:
        raise BadRequestError("recipe", str(error)) from error


def assign(recipe: Recipe, assignments: Iterable[str]) -> Recipe:
    """The recipe with values in place of its own, each as `distill.epochs=1` or `base=embedded`.

    A value is read as TOML, and as a word where it is none. Raises BadRequestError.
    """
    values: dict[str, Any] = msgspec.to_builtins(recipe)
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        section_name, dot, key = name.strip().partition(".")
        if not equals or section_name not in values or isinstance(values[section_name], dict) != bool(dot and key):
            raise BadRequestError("set", f"{assignment!r} is not of the form distill.epochs=1")
        if dot:
            values[section_name] = {**values[section_name], key: _toml(text.strip())}
        else:
            values[section_name] = _toml(text.strip())
    return _convert(values, Recipe, "set")


def _toml(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _convert(values: Mapping[str, Any], kind: type[Config], where: str) -> Config:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise BadRequestError(where, str(error)) from error
