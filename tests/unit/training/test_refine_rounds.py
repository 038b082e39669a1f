"""What the rounds of refinement take, keep and remember."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import refine
from training.recipe import Recipe
from training.records import GroupPassage, Judgement, Role, Split
from training.refine import RefineConfig, RewardWeights
from training.refine.config import Completion
from training.refine.pairs import JudgedGroup, JudgedPair, rounds, shuffled, take
from training.refine.rewards import batch
from training.refine.sampling import SampledAnswer, Samples, known
from training.refine.steps import finish, finished, same_inputs
from training.refine.student import served
from training.refine.tokens import encode, epochs_in_order
from training.refine.validation import Standing, agreement, best, measure, score
from training.stages import RunFolder, Stage, StageError
from whyrank.embedded import model_server
from whyrank.embedded.cache import silent
from whyrank.settings import Settings

BASE = Recipe("test", "embedded")


def group(name: str, size: int, split: Split = Split.TRAIN) -> JudgedGroup:
    pairs = tuple(
        JudgedPair(
            "query",
            GroupPassage(str(i), "A text that is read.", Role.HARD),
            Judgement(name, str(i), "test", 0, (1.0, 0.0, 0.0), 0.0, ""),
        )
        for i in range(size)
    )
    return JudgedGroup(name, split, pairs)


def names(groups: list[JudgedGroup]) -> str:
    return "".join(each.id for each in groups)


def test_rounds_go_on_where_the_one_before_ended() -> None:
    groups = [group(name, 3) for name in "abcde"]
    assert [names(each) for each in rounds(groups, 7, 3)] == ["ab", "cd", "ea"]
    assert [names(each) for each in rounds(groups, 100, 2)] == ["abcde", "abcde"]


def test_groups_are_whole_and_at_least_one_is_taken() -> None:
    groups = [group("a", 5), group("b", 2), group("c", 2)]
    assert names(take(groups, 3)) == "a"
    assert names(take(groups, 8)) == "ab"
    assert names(take(groups, 4, first=1)) == "bc"
    assert take([], 4) == []


def test_the_order_depends_on_ids_and_seed_alone() -> None:
    groups = [group(name, 1) for name in "abcdefgh"] + [group("z", 1, Split.TEST)]
    order = names(shuffled(groups, Split.TRAIN, 1))
    assert sorted(order) == list("abcdefgh")
    assert names(shuffled(reversed(groups), Split.TRAIN, 1)) == order
    assert names(shuffled(groups, Split.TRAIN, 2)) != order
    assert names(shuffled(groups, Split.TEST, 1)) == "z"


def test_a_shortened_passage_is_what_was_read() -> None:
    (pair,) = group("a", 1).pairs
    assert pair.read_as(6).text == "A text"
    assert pair.read_as(6).truncated
    assert pair.read_as(999) == pair.passage.passage()


@given(st.lists(st.integers(1, 900), max_size=60), st.integers(1, 8), st.integers(1, 3), st.integers(0, 9))
def test_every_epoch_learns_all_of_it_once(lengths: list[int], size: int, epochs: int, seed: int) -> None:
    order = epochs_in_order(lengths, size, epochs, seed)
    count = len(lengths)
    for epoch in range(epochs):
        assert sorted(order[epoch * count : (epoch + 1) * count]) == list(range(count))
    assert order == epochs_in_order(lengths, size, epochs, seed)


def test_batches_are_of_like_lengths() -> None:
    lengths = [10, 900, 11, 901, 12, 902, 13, 903]
    order = epochs_in_order(lengths, 4, 1, 0)
    assert {frozenset(order[:4]), frozenset(order[4:])} == {frozenset({0, 2, 4, 6}), frozenset({1, 3, 5, 7})}


class Words:
    """A tokenizer whose tokens are characters."""

    eos_token_id = 0

    def apply_chat_template(self, messages: list[dict[str, str]], tokenize: bool, add_generation_prompt: bool) -> str:
        assert not tokenize
        assert add_generation_prompt
        return "".join(f"<{m['role']}>{m['content']}" for m in messages) + "<assistant>"

    def __call__(self, text: str, add_special_tokens: bool) -> Any:
        assert not add_special_tokens
        return type("Encoding", (), {"input_ids": [ord(char) for char in text]})


def test_only_a_finished_answer_teaches_where_to_end() -> None:
    chat = [{"role": "user", "content": "why"}]
    ended = encode(Words(), chat, Completion("so"))
    assert "".join(map(chr, ended.prompt)) == "<user>why<assistant>"
    assert ended.answer == [ord("s"), ord("o"), 0]
    assert encode(Words(), chat, Completion("so", finished=False)).answer == [ord("s"), ord("o")]


def test_a_step_is_done_when_its_outputs_are_as_they_were(tmp_path: Path) -> None:
    output = tmp_path / "a" / "made.txt"
    output.parent.mkdir()
    output.write_text("made")
    assert finished(tmp_path, "step") is None
    finish(tmp_path, "step", {"count": 3}, [output])
    assert finished(tmp_path, "step") == {"count": 3}
    output.write_text("changed")
    with pytest.raises(StageError, match=r"made\.txt is corrupted; delete it and .*step\.done\.json"):
        finished(tmp_path, "step")
    output.unlink()
    with pytest.raises(StageError, match=r"made\.txt is missing"):
        finished(tmp_path, "step")
    (tmp_path / "step.done.json").write_text("{")
    with pytest.raises(StageError, match=r"step\.done\.json cannot be read"):
        finished(tmp_path, "step")


def test_other_inputs_are_refused_by_name(tmp_path: Path) -> None:
    same_inputs(tmp_path, {"config": "a", "groups": "b"})
    same_inputs(tmp_path, {"groups": "b", "config": "a"})
    with pytest.raises(StageError, match="begun with another adapter, config; delete it"):
        same_inputs(tmp_path, {"config": "c", "groups": "b", "adapter": "d"})


def test_samples_that_were_cut_by_a_kill_are_dropped_and_garbage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    assert known(path) == {}
    line = msgspec.json.encode(Samples("g", "p", (), read_chars=0)) + b"\n"
    path.write_bytes(line + b'{"group"')
    assert list(known(path)) == [("g", "p")]
    assert path.read_bytes() == line
    path.write_bytes(line + b"garbage\n")
    with pytest.raises(StageError, match=r"samples\.jsonl:2.*delete"):
        known(path)


def judged(*answers: tuple[int, int, float]) -> Any:
    """A group of (teacher's label, student's label, student's relevance), each passage answered once."""
    pairs, samples = [], {}
    for number, (teacher, label, relevance) in enumerate(answers):
        probabilities = (float(teacher == 0), float(teacher == 1), float(teacher == 2))
        judgement = Judgement("g", str(number), "test", teacher, probabilities, teacher / 2, "")
        pairs.append(JudgedPair("query", GroupPassage(str(number), "text", Role.HARD), judgement))
        found = SampledAnswer("…", True, label, probabilities, relevance, 1, label % 2)
        samples[pairs[-1].key] = Samples("g", str(number), (found,), read_chars=4)
    return batch(pairs, samples)


def test_a_students_standing() -> None:
    first, second = judged((0, 2, 0.9), (2, 1, 0.5)), judged((0, 0, 0.1), (2, 1, 0.8))
    before, after = measure(first, None), measure(second, None)
    assert agreement(first) == 0.0
    assert agreement(second) == 0.5
    assert before["label"].tolist() == [0.0, 0.5]
    assert after["label"].tolist() == [1.0, 0.5]
    assert before["ranking"] == pytest.approx([1 / np.log2(3)])
    assert after["ranking"].tolist() == [1.0]
    none = RewardWeights(format=0, quotes=0, label=0, ranking=0, model=0)
    assert score(before, before, RewardWeights()) == 0.0
    assert score(after, before, none) == 0.0
    # Label: from 0.25 to 0.75 with a standard deviation of 0.25. One group has none: its nDCG counts as it is
    assert score(after, before, msgspec.structs.replace(none, label=3.0)) == pytest.approx(2.0)
    gain = 1 - 1 / np.log2(3)
    both = msgspec.structs.replace(none, label=3.0, ranking=1.0)
    assert score(after, before, both) == pytest.approx((3 * 2.0 + gain) / 4)


def test_the_best_student_is_the_earliest_of_equals() -> None:
    scores = [0.0, 0.3, 0.3, -1.0]
    assert best([Standing(number, value, 0.0, {}) for number, value in enumerate(scores)]) == 1
    assert best([Standing(number, value, 0.0, {}) for number, value in enumerate([0.0, -0.1])]) == 0


def test_no_rounds_leave_the_distilled_student(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    report = refine.run(run, RefineConfig(rounds=0), Settings(), BASE, silent)
    assert (report.stage, report.outputs, report.figures) == (Stage.REFINE, {}, {"rounds": 0})
    assert run.report(Stage.REFINE) == report
    (tmp_path / "distill" / "adapter").mkdir(parents=True)
    assert run.adapter() == tmp_path / "distill" / "adapter"


def test_refining_needs_a_distilled_student(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="run the stage distill first"):
        refine.run(RunFolder(tmp_path), RefineConfig(), Settings(), BASE, silent)


@pytest.mark.parametrize("model", [0.0, 1.0])
def test_rewards_that_are_all_off_are_an_error(model: float, tmp_path: Path) -> None:
    adapter = tmp_path / "distill" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    off = RewardWeights(format=0, quotes=0, label=0, ranking=0, model=model)  # no reward_model is named
    with pytest.raises(StageError, match="every reward is switched off"):
        refine.run(RunFolder(tmp_path), RefineConfig(rewards=off), Settings(), BASE, silent)


def test_the_embedded_student_is_served_with_its_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    @contextmanager
    def start(folder: Path, **named: Any) -> Iterator[str]:
        started.append((folder, named["adapter"]))
        yield "http://127.0.0.1:1/v1"
        started.append("stopped")

    monkeypatch.setattr(model_server, "start", start)
    monkeypatch.delenv("WHYRANK_MODEL_URL", raising=False)
    with served(tmp_path / "adapter", tmp_path, RefineConfig(), Settings(), BASE) as endpoint:
        assert (endpoint.url, endpoint.model) == ("http://127.0.0.1:1/v1", model_server.SERVED_NAME)
    assert started == [(tmp_path, tmp_path / "adapter"), "stopped"]
    other = Recipe("test", "meta-llama/Llama-3.2-3B-Instruct")
    with (
        pytest.raises(StageError, match="needs a model server"),
        served(tmp_path / "adapter", tmp_path, RefineConfig(), Settings(), other),
    ):
        pass


def test_a_server_that_is_set_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    monkeypatch.setenv("WHYRANK_MODEL_URL", "http://127.0.0.1:9/v1")
    config = RefineConfig(attempts=2, backoff_s=0.0)
    with (
        pytest.raises(StageError, match=r"127\.0\.0\.1:9/v1 does not load adapters"),
        served(adapter, tmp_path, config, Settings(), BASE),
    ):
        pass
