"""Recipes: ours are right in every key, and what the command line changes in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.recipe import RECIPES, assign, configs, load
from training.refine import RefineConfig
from training.stages import STAGES, Stage, StageCode, StageError
from whyrank.errors import BadRequestError

OURS = sorted(path.stem for path in RECIPES.glob("*.toml"))


def test_ours_are_these() -> None:
    assert {"demo", "embedded", "interank"} <= set(OURS)


@pytest.mark.parametrize("name", OURS)
def test_each_of_ours_fits_all_stages(name: str) -> None:
    recipe = load(name)
    assert recipe.name == name
    found = configs(recipe)
    assert list(found) == [stage for stage in STAGES if stage not in recipe.skip]


def test_the_papers_numbers() -> None:
    recipe = load("interank")
    distill, refine = (configs(recipe)[stage] for stage in (Stage.DISTILL, Stage.REFINE))
    expected = {"rank": 64, "alpha": 16, "dropout": 0.1, "learning_rate": 2e-4, "schedule": "constant", "epochs": 1}
    assert {name: getattr(distill, name) for name in expected} == expected
    assert isinstance(refine, RefineConfig)
    assert (refine.samples, refine.temperature, refine.reward_power) == (8, 1.0, 3.0)
    assert refine.rewards.model > 0
    assert refine.rewards.format == refine.rewards.quotes == refine.rewards.label == refine.rewards.ranking == 0


def test_values_in_place_of_the_recipes() -> None:
    recipe = assign(
        load("demo"),
        [
            "distill.epochs=2.5",
            "mine.index=books",
            "synthesize.offline={sentences=3}",
            "base=/models/x",
            "skip=['refine']",
        ],
    )
    assert recipe.distill["epochs"] == 2.5
    assert recipe.mine["index"] == "books"
    assert recipe.synthesize == {"teacher": "offline", "offline": {"sentences": 3}}
    assert recipe.base == "/models/x"
    assert recipe.skip == (Stage.REFINE,)
    assert Stage.REFINE not in configs(recipe)


@pytest.mark.parametrize("wrong", ["distill.epochs", "distil.epochs=1", "distill=1", "name.x=1", "distill.=1", "=1"])
def test_an_assignment_that_is_none(wrong: str) -> None:
    with pytest.raises(BadRequestError, match=r"is not of the form distill\.epochs=1"):
        assign(load("demo"), [wrong])


def test_a_value_that_a_stage_cannot_take_names_its_section() -> None:
    with pytest.raises(BadRequestError, match=r"^recipe: distill: .*float.* - at `\$\.epochs`"):
        configs(assign(load("demo"), ["distill.epochs=many"]))


def test_a_recipe_that_is_not_there_names_ours(tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match="demo, embedded, interank"):
        load("nothing")
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ")
    with pytest.raises(BadRequestError, match=r"broken\.toml"):
        load(broken)


def test_a_stage_whose_packages_are_missing_says_so() -> None:
    code = StageCode("training.nowhere:run", "training.nowhere:Config")
    with pytest.raises(StageError, match=r"training\.nowhere.*whyrank\[training\]"):
        configs(load("demo"), {Stage.MINE: code})
