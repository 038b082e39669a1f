"""Refinement as a whole: a tiny student in the model's own environment, answers from a scripted server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.integration.training import refine_run
from tests.integration.training.refine_run import LABELS, answer, teacher_label
from tests.integration.training.scripted_student import ScriptedStudent, serving
from training import refine
from training.model_job import run_job
from training.recipe import Recipe
from training.records import file_hash, read
from training.refine import Keep, Objective, RefineConfig, RewardWeights
from training.refine.config import Conversation, ConversationScore, KeptAnswer, Preference
from training.refine.sampling import Samples
from training.stages import RunFolder, StageError
from whyrank.embedded import model_server
from whyrank.embedded.cache import Cache, silent
from whyrank.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
N = 4
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="session")
def python() -> Path:
    """The model environment's."""
    return model_server.install_environment(Cache()) / "bin" / "python"


@pytest.fixture(scope="session")
def tiny(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    _in_model_environment(python, "make", folder, model_server.install_model(Cache()))
    return folder


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of so small a model, more threads only wait for each other."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def _in_model_environment(python: Path, *words: object) -> str:
    command = [str(word) for word in (python, "-m", "tests.integration.training.tiny_models", *words)]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=offline, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def script(document: str, number: int) -> str:
    """Right, one off, of no use, and wrong by as much as can be."""
    label = teacher_label(document)
    near = answer(document, 1 if label != 1 else 0)
    return (answer(document, label), near, "I cannot say.", answer(document, 2 - label))[number % 4]


def config(server: ScriptedStudent, **changes: Any) -> RefineConfig:
    basis = RefineConfig(
        rounds=1,
        pairs_per_round=8,
        samples=N,
        server=server.url,
        backoff_s=0.01,
        learning_rate=2e-3,
        batch=4,
        device_batch=2,
        max_length=1024,
        save_steps=1,
        seed=3,
    )
    return msgspec.structs.replace(basis, **changes)


def refined(run: RunFolder, settings: RefineConfig, tiny: Path) -> Any:
    return refine.run(run, settings, Settings(), Recipe("test", str(tiny / "base")), silent)


def likelihoods(python: Path, tiny: Path, adapters: list[Path], asked: list[tuple[Any, str]], folder: Path) -> Any:
    """Shape (adapters, questions): mean log probabilities of the answers."""
    questions = folder / "questions.jsonl"
    questions.write_text("".join(json.dumps({"messages": m, "answer": text}) + "\n" for m, text in asked))
    lines = _in_model_environment(python, "likelihoods", tiny / "base", questions, *adapters).split()
    return np.array(lines, np.float64).reshape(len(adapters), len(asked))


def test_two_rounds_make_rewarded_answers_likelier(tiny: Path, python: Path, tmp_path: Path) -> None:
    run = refine_run.make(tmp_path / "run", tiny / "adapter")
    with serving(ScriptedStudent(script)) as server:
        report = refined(run, config(server, rounds=2, keep=Keep.LAST, epochs=3), tiny)
        adapter = run.path / "refine" / "adapter"
        assert run.adapter() == adapter
        assert set(server.drawn.values()) == {1}
        students = {model for model, _, _ in server.drawn}
        assert len(students) == 3
        assert server.adapters == {}
        # Two groups a round, as other ones; each student judges the one that is held out
        assert sorted(n for _, _, n in server.drawn) == [1] * 12 + [N] * 16
        assert len({document for _, document, n in server.drawn if n == N}) == 16
    assert report.figures["rounds"] == report.figures["student"] == 2
    assert report.outputs["adapter/adapter_model.safetensors"] == file_hash(adapter / WEIGHTS)
    first = report.figures["students"][0]
    assert first["lesson"]["answers"] == 32
    assert first["lesson"]["rewards"]["format"] == 0.75
    assert first["lesson"]["rewards"]["quotes"] == 0.75
    # Of a 1, two of the four answers have the teacher's label; of a 0 or a 2, one
    assert first["lesson"]["boost"]["mean"] == (3 * 0.75 + 0.5) / 4
    assert first["learn"]["learnt"] == first["lesson"]["learnt"] > 0
    assert first["learn"]["losses"][0] > 0
    lessons = [
        kept
        for number in (0, 1)
        for kept in read(run.path / "refine" / f"student-{number}" / "lesson.jsonl", KeptAnswer)
    ]
    heaviest = [kept for kept in lessons if kept.weight == max(each.weight for each in lessons)]
    assert len(heaviest) >= 8
    assert all("Relevance Label" in kept.answer.text for kept in heaviest)
    wrong = [answer_with(kept, {"0": "2", "1": "0", "2": "0"}[kept.answer.text[-1]]) for kept in heaviest]
    asked = [(k.messages, k.answer.text) for k in heaviest] + [
        (k.messages, w) for k, w in zip(heaviest, wrong, strict=True)
    ]
    before, after = likelihoods(python, tiny, [tiny / "adapter", adapter], asked, tmp_path)
    gained = after - before
    count = len(heaviest)
    assert (gained[:count] > 0).all()
    assert gained[:count].mean() > gained[count:].mean()


def answer_with(kept: KeptAnswer, label: str) -> str:
    return kept.answer.text[:-1] + label


def test_dpo_moves_the_margin(tiny: Path, python: Path, tmp_path: Path) -> None:
    run = refine_run.make(tmp_path / "run", tiny / "adapter", validation=0)
    with serving(ScriptedStudent(script)) as server:
        report = refined(run, config(server, objective=Objective.DPO, epochs=4, batch=2), tiny)
    student = run.path / "refine" / "student-0"
    preferences = list(read(student / "lesson.jsonl", Preference))
    assert len(preferences) == 8
    assert all(each.chosen.text[-1] == str(label_of(each)) for each in preferences)
    margins = report.figures["students"][0]["learn"]["margins"]
    assert margins[-1] > margins[0]
    asked = [(each.messages, text) for each in preferences for text in (each.chosen.text, each.rejected.text)]
    found = likelihoods(python, tiny, [tiny / "adapter", run.path / "refine" / "adapter"], asked, tmp_path)
    before, after = found[:, ::2] - found[:, 1::2]
    assert after.mean() > before.mean()
    assert not (run.path / "refine" / "adapter" / "ref").exists()


def label_of(preference: Preference) -> int:
    document = "doc-" + preference.messages[-1]["content"].split("doc-")[1].split()[0]
    return teacher_label(document)


def test_a_reward_model_of_ones_own(tiny: Path, python: Path, tmp_path: Path) -> None:
    run = refine_run.make(tmp_path / "run", tiny / "adapter")
    only = RewardWeights(format=0, quotes=0, label=0, ranking=0, model=1)
    with serving(ScriptedStudent(script)) as server:
        wanted = config(
            server, rewards=only, reward_model=str(tiny / "reward"), boost=False, reward_batch=3, keep=Keep.LAST
        )
        report = refined(run, wanted, tiny)
    student = run.path / "refine" / "student-0"
    conversations = list(read(student / "score" / "conversations.jsonl", Conversation))
    assert len(conversations) == 8 * N + len(LABELS)
    assert conversations[0].messages[-1]["role"] == "assistant"
    scores = {
        found.id: found.score for found in read(student / "score" / "scores.jsonl", ConversationScore, verify=False)
    }
    assert len(set(scores.values())) > N
    # The best answer of each pair, by the reward model, is the one with the greatest weight
    learnt = {(k.messages[-1]["content"], k.answer.text): k.weight for k in read(student / "lesson.jsonl", KeptAnswer)}
    for start in range(0, 8 * N, N):
        best = max(range(start, start + N), key=scores.__getitem__)
        chat = conversations[best].messages
        assert learnt[chat[-2]["content"], chat[-1]["content"]] == pytest.approx(1.0)
    assert report.figures["students"][0]["score"]["scored"] == 8 * N + len(LABELS)
    # In batches of three, padded, as one by one
    alone = tmp_path / "alone"
    alone.mkdir()
    singly = msgspec.structs.replace(wanted, reward_batch=1)
    job = {"base": str(tiny / "reward"), "data": student / "score" / "conversations.jsonl", "config": singly}
    run_job("training.refine.reward_job", job, alone, Settings(), silent)
    again = _scores(alone)
    assert [again[i] for i in range(len(again))] == pytest.approx([scores[i] for i in range(len(scores))], abs=1e-4)


def _scores(folder: Path) -> dict[int, float]:
    return {found.id: found.score for found in read(folder / "scores.jsonl", ConversationScore, verify=False)}


def _stage(run: RunFolder, settings: RefineConfig, tiny: Path, out: Path) -> subprocess.Popen[bytes]:
    path = run.path / "config.json"
    path.write_bytes(msgspec.json.encode(settings))
    command = [sys.executable, "-m", "tests.integration.training.refine_run", run.path, path, tiny / "base"]
    with out.open("ab") as output:
        return subprocess.Popen(
            [str(word) for word in command], cwd=ROOT, stdout=output, stderr=output, start_new_session=True
        )


def _kill(process: subprocess.Popen[bytes]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def _until(condition: Any, process: subprocess.Popen[bytes], out: Path) -> None:
    ends = time.monotonic() + 900
    while not condition():
        assert process.poll() is None, out.read_text()
        assert time.monotonic() < ends, out.read_text()
        time.sleep(0.02)


def test_killed_anywhere_it_goes_on_and_pays_nothing_twice(tiny: Path, tmp_path: Path) -> None:
    with serving(ScriptedStudent(script)) as server:
        whole = refine_run.make(tmp_path / "whole", tiny / "adapter")
        settings = config(server, keep=Keep.LAST, concurrency=1, epochs=2)
        wanted = refined(whole, settings, tiny)
        server.drawn.clear()
        run = refine_run.make(tmp_path / "killed", tiny / "adapter")
        refine_folder, out = run.path / "refine", tmp_path / "out"
        samples, learn = refine_folder / "student-0" / "samples.jsonl", refine_folder / "student-0" / "learn"

        process = _stage(run, settings, tiny, out)
        _until(lambda: samples.exists() and samples.read_bytes().count(b"\n") >= 3, process, out)
        _kill(process)
        kept = samples.read_bytes()
        samples.write_bytes(kept + b'{"group": "g')  # as a kill in the middle of a write leaves it

        process = _stage(run, settings, tiny, out)
        _until(lambda: any(learn.glob("checkpoints/checkpoint-*/SHA256SUMS")), process, out)
        _kill(process)
        assert samples.read_bytes().startswith(kept)
        assert not (learn / "adapter").exists()

        report = refined(run, settings, tiny)
    drawn = {name: count for name, count in server.drawn.items() if name[2] == N}
    # One pair may have been on its way when the first kill came
    assert len(drawn) == 8
    assert sorted(drawn.values())[:-1] == [1] * 7
    assert max(drawn.values()) <= 2
    assert report.figures["students"][0]["learn"]["resumed_at"] >= 1
    assert report.outputs == wanted.outputs
    assert report.figures["standings"] == wanted.figures["standings"]


def test_a_killed_dpo_goes_on_where_it_was(tiny: Path, tmp_path: Path) -> None:
    with serving(ScriptedStudent(script)) as server:
        settings = config(server, objective=Objective.DPO, epochs=2, batch=2)
        wanted = refined(refine_run.make(tmp_path / "whole", tiny / "adapter", validation=0), settings, tiny)
        run = refine_run.make(tmp_path / "killed", tiny / "adapter", validation=0)
        learn, out = run.path / "refine" / "student-0" / "learn", tmp_path / "out"
        process = _stage(run, settings, tiny, out)
        _until(lambda: any(learn.glob("checkpoints/checkpoint-*/SHA256SUMS")), process, out)
        _kill(process)
        report = refined(run, settings, tiny)
    assert report.figures["students"][0]["learn"]["resumed_at"] >= 1
    assert report.outputs == wanted.outputs


def test_what_is_corrupted_is_named(tiny: Path, tmp_path: Path) -> None:
    run = refine_run.make(tmp_path / "run", tiny / "adapter")
    with serving(ScriptedStudent(lambda document, _: answer(document, teacher_label(document)))) as server:
        settings = config(server)
        report = refined(run, settings, tiny)
        assert "nothing to learn" in report.figures["stopped"]
        assert report.outputs == {}
        assert run.adapter() == run.path / "distill" / "adapter"
        samples = run.path / "refine" / "student-0" / "samples.jsonl"
        whole = samples.read_bytes()
        samples.write_bytes(whole.replace(b"Relevance Label: 2", b"Relevance Label: 1", 1))
        with pytest.raises(StageError, match=r"samples\.jsonl is corrupted; delete it and .*draw\.done\.json"):
            refined(run, settings, tiny)
        samples.write_bytes(whole)
        record = run.path / "refine" / "student-0" / "lesson.done.json"
        record.write_bytes(record.read_bytes()[:20])
        with pytest.raises(StageError, match=r"lesson\.done\.json cannot be read"):
            refined(run, settings, tiny)
        with pytest.raises(StageError, match="begun with another config"):
            refined(run, msgspec.structs.replace(settings, seed=4), tiny)


def test_a_server_that_stumbles_is_asked_again_and_one_that_is_away_is_an_error(tiny: Path, tmp_path: Path) -> None:
    run = refine_run.make(tmp_path / "run", tiny / "adapter")
    with serving(ScriptedStudent(lambda document, _: answer(document, teacher_label(document)))) as server:
        settings = config(server, concurrency=2, attempts=3)
        server.statuses = [429, 500, 503, 429]
        refined(run, settings, tiny)
        assert set(server.drawn.values()) == {1}
        away = refine_run.make(tmp_path / "away", tiny / "adapter")
        server.statuses = [500] * 100
        with pytest.raises(StageError, match=r"does not answer as it should.*500.*run the stage again"):
            refined(away, settings, tiny)
        server.statuses = []
        refined(away, settings, tiny)
        server.takes_adapters = False
        with pytest.raises(StageError, match="does not load adapters"):
            refined(refine_run.make(tmp_path / "plain", tiny / "adapter"), settings, tiny)


def test_samples_are_what_serving_reads(tiny: Path, tmp_path: Path) -> None:
    run = refine_run.make(tmp_path / "run", tiny / "adapter")
    with serving(ScriptedStudent(script)) as server:
        refined(run, config(server, min_reward=1.0, boost=False, keep=Keep.LAST), tiny)
    greedy = [request for request in server.requests if "n" not in request]
    drawn = [request for request in server.requests if request.get("n") == N]
    assert len(greedy) == 2 * len(LABELS)
    assert {request["temperature"] for request in greedy} == {0}
    assert {request["temperature"] for request in drawn} == {1.0}
    assert len({request["seed"] for request in drawn}) == len(drawn)
    assert all("Relevance Label" in request["structured_outputs"]["regex"] for request in drawn)
    for samples in read(run.path / "refine" / "student-0" / "samples.jsonl", Samples, verify=False):
        right = teacher_label(samples.passage)
        assert [each.label for each in samples.answers] == [right, 1 if right != 1 else 0, None, 2 - right]
        assert [each.grounded for each in samples.answers] == [1, 1, 0, 1]
        assert samples.answers[0].probabilities == pytest.approx(
            [0.8 if label == right else 0.1 for label in range(3)], abs=1e-3
        )
