"""Distillation with a tiny student in the model's own environment."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from tests.integration.training.conftest import InModelEnvironment
from training import distill
from training.distill.checkpoints import SEAL
from training.recipe import Recipe
from training.records import Group, GroupPassage, Judgement, Role, Source, Split, file_hash, write
from training.stages import RunFolder, Stage, StageError
from whyrank.prompt import Constraint
from whyrank.records import ModelManifest
from whyrank.registry import Registry
from whyrank.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
CONFIG = distill.DistillConfig(
    learning_rate=3e-3, groups_per_step=1, rank=4, checkpoint_steps=2, epochs=3, label_mode_share=0.3
)
TOPICS = ("caches", "sockets", "tables", "threads")


def make(folder: Path, groups: int = 6, primer: int = 0) -> RunFolder:
    """A run whose groups are judged: the passage of the query's topic has label 2, the others 0."""
    run = RunFolder(folder)
    made, judged = [], []
    for number in range(groups):
        topic = TOPICS[number % len(TOPICS)]
        passages = []
        for other in TOPICS:
            text = f"Manual of {other}. The page explains how {other} are opened and closed. It has more pages."
            passages.append(GroupPassage(other, text, Role.HARD, 1.0))
            right = other == topic
            probabilities = (0.1, 0.2, 0.7) if right else (0.8, 0.15, 0.05)
            quote = f"The page explains how {other} are opened and closed"
            judged.append(
                Judgement(
                    f"g{number}",
                    other,
                    "test",
                    2 if right else 0,
                    probabilities,
                    (probabilities[1] + 2 * probabilities[2]) / 2,
                    f'The document states "{quote}".',
                    (quote,),
                )
            )
        group = Group(
            f"g{number}",
            f"opening {topic} {number}",
            Source.HEADING,
            f"o{number}",
            "test",
            Split.TRAIN,
            tuple(passages),
        )
        made.append(group)
    write(run.folder(Stage.SYNTHESIZE) / "groups.jsonl", made)
    write(run.folder(Stage.SYNTHESIZE) / "judgements.jsonl", judged)
    write(run.folder(Stage.SYNTHESIZE) / "primer_groups.jsonl", made[:primer])
    write(run.folder(Stage.SYNTHESIZE) / "primer_judgements.jsonl", judged[: primer * len(TOPICS)])
    return run


def train(
    run: RunFolder, base: Path, config: distill.DistillConfig = CONFIG, settings: Settings | None = None
) -> dict[str, object]:
    recipe = Recipe("test", str(base))
    return distill.run(run, config, settings or Settings(), recipe, lambda *_: None).figures


def test_a_packed_group_computes_what_its_pairs_do_alone(
    tiny: Path, in_model_environment: InModelEnvironment, tmp_path: Path
) -> None:
    run = make(tmp_path)
    printed = in_model_environment(
        "tests.integration.training.distill_probe", tiny / "base", run.folder(Stage.SYNTHESIZE)
    )
    found = json.loads(printed.splitlines()[-1])
    for mode, one in found.items():
        assert one["difference"] < 1e-3 * one["size"], mode
        assert one["shared"] > 50  # the instruction and the query are computed once
        assert [token.strip() for token in one["labels"]] == ["0", "1", "2"]
        assert [token.strip() for token in one["label_tokens"]] == ["2", "0", "0", "0"]
        assert all("opening caches 0" in prompt for prompt in one["prompts"])
        assert one["relevance"] == pytest.approx(one["expected"], abs=1e-5)
        assert all(math.isfinite(term) and term > 0 for term in one["terms"])
    assert all("The document states" in answer for answer in found["reason"]["answers"])
    assert not any("states" in answer for answer in found["label"]["answers"])


def test_the_student_learns_the_teachers_order(tiny: Path, tmp_path: Path) -> None:
    run = make(tmp_path)
    figures = train(run, tiny / "base")
    losses = figures["losses"]
    assert isinstance(losses, list)
    for part in ("explanation_loss", "label_loss", "listwise_loss"):
        assert losses[-1][part] < losses[0][part], part
    assert figures["pairs"] == 24
    adapter = run.adapter()
    assert json.loads((adapter / "adapter_config.json").read_text())["r"] == 4
    report = run.report(Stage.DISTILL)
    assert report is not None
    assert report.outputs["adapter/adapter_model.safetensors"] == file_hash(adapter / "adapter_model.safetensors")


def test_the_primer_is_learnt_first_and_once(tiny: Path, tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIG, epochs=2)
    without = train(make(tmp_path / "without"), tiny / "base", config)
    figures = train(make(tmp_path / "with", primer=3), tiny / "base", config)
    assert figures["primer_groups"] == 3
    assert without["primer_groups"] == 0
    assert (without["steps"], figures["steps"]) == (12, 15)
    assert figures["losses"][0] != without["losses"][0]  # type: ignore[index]


def losses(figures: dict[str, object]) -> list[float]:
    logged = figures["losses"]
    assert isinstance(logged, list)
    return [line["loss"] for line in logged]


def test_it_goes_on_from_the_current_version(tiny: Path, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    registry = Registry(settings.home / "models")
    config = msgspec.structs.replace(CONFIG, start="current")
    first = make(tmp_path / "first")
    anew = losses(train(first, tiny / "base", config, settings))  # nothing is current yet
    made = ModelManifest("first", str(tiny / "base"), datetime.now(UTC), constraint=Constraint.QUOTE)
    version = registry.add(first.adapter(), made)
    registry.promote(version, "a test")
    second = make(tmp_path / "second")
    went_on = losses(train(second, tiny / "base", config, settings))
    assert went_on[0] < anew[0]
    report = second.report(Stage.DISTILL)
    assert report is not None
    name = "adapter_model.safetensors"
    assert report.inputs[f"start/{name}"] == file_hash(first.adapter() / name)
    registry.promote(registry.add(second.adapter(), made), "another one, while a third run is killed and resumed")
    shutil.copytree(second.folder(Stage.DISTILL) / "start", tmp_path / "third" / "distill" / "start")
    third = make(tmp_path / "third")
    assert losses(train(third, tiny / "base", config, settings)) == went_on


def test_it_does_not_go_on_from_a_version_of_another_base(tiny: Path, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    registry = Registry(settings.home / "models")
    first = make(tmp_path / "first")
    train(first, tiny / "base", msgspec.structs.replace(CONFIG, epochs=0.5), settings)
    made = ModelManifest("first", "another/base", datetime.now(UTC))
    registry.promote(registry.add(first.adapter(), made), "a test")
    with pytest.raises(StageError, match="another/base"):
        train(make(tmp_path / "second"), tiny / "base", msgspec.structs.replace(CONFIG, start="current"), settings)


@pytest.mark.parametrize(
    "off", [{"listwise_weight": 0.0}, {"soft_labels": False}, {"explanation_weight": 0.0}, {"label_weight": 0.0}]
)
def test_each_part_of_the_loss_can_be_switched_off(tiny: Path, tmp_path: Path, off: dict[str, float | bool]) -> None:
    short = msgspec.structs.replace(CONFIG, epochs=0.5, label_mode_share=0.0)
    hashes = []
    for name, config in (("on", short), ("off", msgspec.structs.replace(short, **off))):
        run = make(tmp_path / name)
        train(run, tiny / "base", config)
        hashes.append(file_hash(run.adapter() / "adapter_model.safetensors"))
    assert hashes[0] != hashes[1]


def test_killed_and_started_again_it_ends_with_the_same_adapter(tiny: Path, tmp_path: Path) -> None:
    whole, killed = make(tmp_path / "whole"), make(tmp_path / "killed")
    train(whole, tiny / "base")
    command = [sys.executable, "-m", "tests.integration.training.test_distill", str(killed.path), str(tiny / "base")]
    stage = subprocess.Popen(command, cwd=ROOT)
    checkpoints = killed.folder(Stage.DISTILL) / "checkpoints"
    while not list(checkpoints.glob(f"checkpoint-*/{SEAL}")):
        assert stage.poll() is None
        time.sleep(0.01)
    os.kill(stage.pid, signal.SIGKILL)
    stage.wait()
    figures = train(killed, tiny / "base")
    assert figures["resumed_at"] != 0
    name = "adapter_model.safetensors"
    assert file_hash(killed.adapter() / name) == file_hash(whole.adapter() / name)


def test_a_corrupted_checkpoint_is_not_learnt_from(tiny: Path, tmp_path: Path) -> None:
    run = make(tmp_path)
    train(run, tiny / "base")
    folder = run.folder(Stage.DISTILL)
    newest, older = sorted(folder.glob("checkpoints/checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))[::-1][:2]
    damage(newest)
    assert train(run, tiny / "base")["resumed_at"] == int(older.name.split("-")[1])
    for each in folder.glob("checkpoints/checkpoint-*"):
        damage(each)
    with pytest.raises(StageError, match=r"is corrupted.*Delete .* to train from the beginning"):
        train(run, tiny / "base")


def damage(checkpoint: Path) -> None:
    path = checkpoint / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_without_a_judged_group_it_says_what_to_do(tiny: Path, tmp_path: Path) -> None:
    run = make(tmp_path, groups=0)
    with pytest.raises(StageError, match="no judged group"):
        train(run, tiny / "base")


if __name__ == "__main__":
    train(RunFolder(Path(sys.argv[1])), Path(sys.argv[2]))
