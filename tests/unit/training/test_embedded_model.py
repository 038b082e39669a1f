"""The model that comes with the package: it is whole, it tells where it is from, and it claims what was measured."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from training import embedded_check
from training.embedded_check import EVIDENCE
from training.evaluate import metrics as metrics_of
from training.evaluate.evaluation import QueryValues
from training.evaluate.metrics import PRIMARY, Metrics, Role
from training.recipe import load
from training.records import Group, Split, check, read
from training.registry.stage import summary
from whyrank.embedded import bi_encoder, model_server
from whyrank.records import ModelManifest
from whyrank.registry import Registry, Version

LARGEST = 10_000_000
MINED = "mine/groups.jsonl"


@pytest.fixture(scope="module")
def version() -> Version:
    return Registry.load_folder(model_server.SHIPPED)


@pytest.fixture(scope="module")
def manifest(version: Version) -> ModelManifest:
    return version.manifest


@pytest.fixture(scope="module")
def metrics(version: Version) -> Metrics:
    assert version.evaluation is not None
    return metrics_of.load(version.evaluation)


def test_it_is_small_and_what_a_new_home_serves(version: Version, tmp_path: Path) -> None:
    assert sum(path.stat().st_size for path in model_server.SHIPPED.rglob("*") if path.is_file()) <= LARGEST
    registry = model_server.registry(tmp_path)
    assert registry.current() == registry.default() == version.manifest.name
    assert registry.load(version.manifest.name).adapter == version.adapter


def test_it_is_of_the_base_and_the_bi_encoder_that_are_here(manifest: ModelManifest) -> None:
    assert (manifest.base, manifest.bi_encoder) == (model_server.BASE, bi_encoder.ENCODER.name)


def test_its_history_names_data_recipe_and_code(manifest: ModelManifest) -> None:
    history = manifest.history
    assert history is not None
    assert history.recipe == load(history.recipe).name
    assert {MINED, "synthesize/judgements.jsonl", "synthesize/primer_groups.jsonl"} <= history.data.keys()
    assert re.fullmatch("[0-9a-f]{40}", history.commit)


def test_what_it_claims_is_what_its_evaluation_found(manifest: ModelManifest, metrics: Metrics) -> None:
    assert manifest.history is not None
    assert manifest.history.metrics == pytest.approx(summary(metrics))
    assert manifest.weights == metrics.models[Role.CANDIDATE].weights


def test_its_weights_are_the_recipes_and_no_judged_collection_is_in_it(
    manifest: ModelManifest, metrics: Metrics
) -> None:
    recipe = load("embedded")
    assert msgspec.to_builtins(manifest.weights) == recipe.evaluate["weights"]
    assert {each.name for each in metrics.collections} == {embedded_check.COLLECTION}
    assert metrics.choice is None


def test_its_means_are_those_of_the_queries_that_are_kept(metrics: Metrics) -> None:
    kept = list(read(EVIDENCE / embedded_check.QUERIES, QueryValues))
    for system, means in metrics.means.items():
        values = [query.values[system][PRIMARY] for query in kept]
        assert sum(values) / len(values) == pytest.approx(means[PRIMARY]), system


def test_the_kept_queries_were_held_out_of_the_data_it_learnt_from(manifest: ModelManifest) -> None:
    assert manifest.history is not None
    groups = list(read(EVIDENCE / embedded_check.GROUPS, Group))
    assert {group.split for group in groups} == {Split.TEST}
    assert {query.query for query in read(EVIDENCE / embedded_check.QUERIES, QueryValues)} == {g.id for g in groups}
    for name in (embedded_check.GROUPS, embedded_check.QUERIES):
        assert check(EVIDENCE / name).made_of[MINED] == manifest.history.data[MINED]
