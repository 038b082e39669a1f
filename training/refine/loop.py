"""The rounds: sample, reward, learn, and again, each step done once whatever is killed when.

refine/student-0/        the distilled student
    validation.jsonl     its answers on the validation pairs, one each, as a search gets them
    samples.jsonl        its answers on the first round's pairs, n each
    score/               the reward model's job
    lesson.jsonl         what is learnt of them
    learn/adapter/       the student after this round
refine/student-1/ ...    the same for that student
refine/adapter/          the best student's, unless it is the distilled one
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from training.model_job import run_job
from training.progress import Stopwatch, counting
from training.recipe import Recipe
from training.records import Split, check, file_hash, read, write
from training.refine import steps, validation
from training.refine.config import Conversation, ConversationScore, Keep, RefineConfig, RewardJob, TrainJob
from training.refine.learning import completion, lesson, messages_of, rewards
from training.refine.pairs import JudgedGroup, JudgedPair, judged_groups, rounds, shuffled, take
from training.refine.rewards import Batch, Floats, batch
from training.refine.sampling import Drawing, Endpoint, Samples, draw, known
from training.refine.student import served
from training.refine.validation import Standing
from training.stages import Progress, Report, RunFolder, Stage, StageError, config_hash
from whyrank.embedded.cache import exclusive
from whyrank.prompt import PROMPT_VERSION, Constraint
from whyrank.settings import Settings

_SAMPLES = "samples.jsonl"
_VALIDATION = "validation.jsonl"
_LESSON = "lesson.jsonl"
_WEIGHTS = "adapter_model.safetensors"


def refine(run: RunFolder, config: RefineConfig, settings: Settings, recipe: Recipe, progress: Progress) -> Report:
    """See `training.refine.run`."""
    folder = run.folder(Stage.REFINE)
    with exclusive(folder / "lock"), Stopwatch(folder) as watch:
        if config.rounds == 0:
            inputs = {"config": config_hash(config)}
            return run.finish(Report.of(Stage.REFINE, folder, [], inputs, {"rounds": 0}, watch.seconds))
        loop = _Loop(run, config, settings, recipe, progress, watch)
        figures = loop.run()
        made = ["adapter"] if (folder / "adapter").is_dir() else []
        return run.finish(Report.of(Stage.REFINE, folder, made, loop.inputs, figures, watch.seconds))


class _Loop:
    def __init__(  # noqa: PLR0917  the stage's own arguments
        self,
        run: RunFolder,
        config: RefineConfig,
        settings: Settings,
        recipe: Recipe,
        progress: Progress,
        watch: Stopwatch,
    ) -> None:
        self._config = config
        self._settings = settings
        self._recipe = recipe
        self._progress = progress
        self._watch = watch
        self._folder = run.folder(Stage.REFINE)
        self._constraint = Constraint(recipe.constraint)
        self._distilled = run.path / Stage.DISTILL.value / "adapter"
        if not (self._distilled / _WEIGHTS).is_file():
            raise StageError(f"{self._distilled} holds no adapter: run the stage distill first")
        if not rewards(config, np.zeros(0) if config.reward_model else None):
            raise StageError("every reward is switched off: give one a weight in `rewards`, or set `rounds = 0`")
        records = run.folder(Stage.SYNTHESIZE)
        self.inputs = {name: check(records / name).sha256 for name in ("groups.jsonl", "judgements.jsonl")}
        self.inputs |= {
            "config": config_hash(config),
            "base": recipe.base,
            "constraint": recipe.constraint,
            "prompt": PROMPT_VERSION,
            "distill/adapter": file_hash(self._distilled / _WEIGHTS),
        }
        steps.same_inputs(self._folder, self.inputs)
        groups = judged_groups(records / "groups.jsonl", records / "judgements.jsonl")
        learnt = shuffled(groups, Split.TRAIN, config.seed)
        if not learnt:
            raise StageError("no group of the split train is judged: mine more, or look at synthesize/report.json")
        self._plan = rounds(learnt, config.pairs_per_round, config.rounds)
        held_out = shuffled(groups, Split.VALIDATION, config.seed)
        self._held_out = _pairs(take(held_out, config.validation_pairs)) if config.validation_pairs else []

    def run(self) -> dict[str, Any]:
        """All rounds, and the best student's adapter; gives the report's figures."""
        made: list[dict[str, Any]] = []
        adapters = [self._distilled]
        stopped = ""
        for number in range(self._config.rounds + 1):
            sampled = self._plan[number] if number < self._config.rounds else None
            figures = {"draws": self._draw(number, adapters[number], sampled)}
            if self._config.reward_model is not None:
                figures["score"] = self._score(number, sampled)
            if sampled is not None:
                figures["lesson"] = self._lesson(number, sampled)
                if figures["lesson"]["learnt"] == 0:
                    stopped = f"student {number} has nothing to learn from its answers"
                    made.append(figures)
                    break
                figures["learn"] = self._learn(number, adapters[number])
                adapters.append(self._student(number) / "learn" / "adapter")
            made.append(figures)
        standings = self._standings(len(made))
        chosen = self._choose(standings, len(made))
        self._leave(adapters[chosen] if chosen else None)
        return {
            "rounds": len(adapters) - 1,
            "stopped": stopped,
            "student": chosen,
            "standings": msgspec.to_builtins(standings),
            "students": made,
        }

    def _student(self, number: int) -> Path:
        folder = self._folder / f"student-{number}"
        folder.mkdir(exist_ok=True)
        return folder

    def _draw(self, number: int, adapter: Path, sampled: Sequence[JudgedGroup] | None) -> dict[str, Any]:
        """The student's answers on the validation pairs and on the next round's, in one session of its server."""
        folder = self._student(number)
        if (known := steps.finished(folder, "draw")) is not None:
            return known
        wanted: list[tuple[str, str, Sequence[JudgedPair], int | None]] = []
        if self._held_out:
            wanted.append((_VALIDATION, "validating", self._held_out, None))
        if sampled is not None:
            wanted.append((_SAMPLES, "sampling", _pairs(sampled), self._config.samples))
        figures: dict[str, Any] = {}
        if wanted:
            self._progress(f"student {number}: starting its server", None)
            with served(adapter, folder, self._config, self._settings, self._recipe) as endpoint:
                for name, what, pairs, count in wanted:
                    drawing, title = self._drawing(number, count), f"student {number}: {what}"
                    figures[what] = self._draw_file(folder / name, title, pairs, endpoint, drawing)
        return self._finish(folder, "draw", figures, [folder / name for name, *_ in wanted])

    def _draw_file(
        self, path: Path, what: str, pairs: Sequence[JudgedPair], endpoint: Endpoint, drawing: Drawing
    ) -> dict[str, Any]:
        began = time.monotonic()
        before = len(known(path))
        with counting(what, len(pairs), self._progress, unit="pairs", done=before) as counter:

            def done(count: int) -> None:
                counter.advance(count)
                self._watch.save()

            asyncio.run(draw(pairs, path, endpoint, drawing, done))
        seconds = time.monotonic() - began
        found = list(known(path).values())
        answers = [answer for samples in found for answer in samples.answers]
        if not answers:
            refusal = found[0].refused if found else ""
            raise StageError(f"the model server refused every prompt: {refusal}")
        tokens = sum(answer.completion_tokens for answer in answers)
        return {
            "pairs": len(found),
            "refused": sum(1 for samples in found if samples.refused),
            "answers": len(answers),
            "prompt_tokens": sum(samples.prompt_tokens for samples in found),
            "completion_tokens": tokens,
            "pairs_per_second": (len(found) - before) / seconds,
        }

    def _drawing(self, number: int, count: int | None) -> Drawing:
        config = self._config
        return Drawing(
            mode=config.mode,
            constraint=self._constraint,
            explanation_tokens=config.max_tokens or self._settings.max_explanation_tokens,
            count=count,
            temperature=config.temperature,
            seed=config.seed + number,
            concurrency=config.concurrency,
            attempts=config.attempts,
            backoff_s=config.backoff_s,
        )

    def _batches(self, number: int, sampled: Sequence[JudgedGroup] | None) -> tuple[Batch | None, Batch | None]:
        """(the student's samples, its validation answers), None where there are none."""
        folder = self._student(number)

        def load(name: str, pairs: Sequence[JudgedPair]) -> Batch | None:
            if not pairs:
                return None
            return batch(pairs, {samples.key: samples for samples in read(folder / name, Samples, verify=False)})

        return load(_SAMPLES, _pairs(sampled or ())), load(_VALIDATION, self._held_out)

    def _score(self, number: int, sampled: Sequence[JudgedGroup] | None) -> dict[str, Any]:
        """The reward model's opinion of all the student's answers."""
        folder = self._student(number)
        if (known := steps.finished(folder, "score")) is not None:
            return known
        work = folder / "score"
        work.mkdir(exist_ok=True)
        write(work / "conversations.jsonl", self._conversations(self._batches(number, sampled)))
        job = RewardJob(self._config.reward_model or "", work, work / "conversations.jsonl", self._config)
        self._progress(f"student {number}: the reward model", None)
        figures = self._job("training.refine.reward_job", job)
        return self._finish(folder, "score", figures, [work / "scores.jsonl"])

    def _conversations(self, batches: tuple[Batch | None, Batch | None]) -> Iterator[Conversation]:
        number = 0
        for found in filter(None, batches):
            for pair, samples in zip(found.pairs, found.samples, strict=True):
                chat = messages_of(pair, samples, self._config, self._constraint)
                for answer in samples.answers:
                    text = completion(answer, self._constraint).text
                    yield Conversation(number, [*chat, {"role": "assistant", "content": text}])
                    number += 1

    def _logits(self, number: int, batches: tuple[Batch | None, Batch | None]) -> list[Floats | None]:
        """The reward model's logits of both batches, in the shape of their labels."""
        if self._config.reward_model is None:
            return [None, None]
        scores = list(read(self._student(number) / "score" / "scores.jsonl", ConversationScore, verify=False))
        values = np.array([found.score for found in sorted(scores, key=lambda found: found.id)])
        shaped: list[Floats | None] = []
        for found in batches:
            size = 0 if found is None else found.labels.size
            shaped.append(None if found is None else values[:size].reshape(found.labels.shape))
            values = values[size:]
        return shaped

    def _lesson(self, number: int, sampled: Sequence[JudgedGroup]) -> dict[str, Any]:
        """What is learnt of the samples."""
        folder = self._student(number)
        if (known := steps.finished(folder, "lesson")) is not None:
            return known
        batches = self._batches(number, sampled)
        samples, logits = batches[0], self._logits(number, batches)[0]
        if samples is None:
            raise StageError(f"{folder / _SAMPLES} holds no samples; delete {folder} to draw them again")
        found = lesson(samples, logits, self._config, self._constraint)
        write(folder / _LESSON, found.rows, made_of={_SAMPLES: file_hash(folder / _SAMPLES)})
        return self._finish(folder, "lesson", found.figures, [folder / _LESSON])

    def _learn(self, number: int, adapter: Path) -> dict[str, Any]:
        """The next student's adapter."""
        folder = self._student(number)
        if (known := steps.finished(folder, "learn")) is not None:
            return known
        work = folder / "learn"
        work.mkdir(exist_ok=True)
        self._progress(f"round {number + 1}: learning", None)
        job = TrainJob(self._recipe.base, work, adapter, folder / _LESSON, self._config)
        figures = self._job("training.refine.job", job)
        figures = self._finish(folder, "learn", figures, sorted((work / "adapter").iterdir()))
        shutil.rmtree(work / "checkpoints", ignore_errors=True)
        return figures

    def _job(self, module: str, job: TrainJob | RewardJob) -> dict[str, Any]:
        fields = {name: getattr(job, name) for name in job.__struct_fields__}
        return run_job(module, fields, job.folder, self._settings, self._progress)

    def _standings(self, students: int) -> list[Standing]:
        if not self._held_out:
            return []
        found: list[Standing] = []
        first: dict[str, Floats] = {}
        for number in range(students):
            batches = self._batches(number, self._plan[number] if number < self._config.rounds else None)
            answers = batches[1]
            if answers is None:
                return []
            measured = validation.measure(answers, self._logits(number, batches)[1])
            first = first or measured
            found.append(
                Standing(
                    number,
                    validation.score(measured, first, self._config.rewards),
                    validation.agreement(answers),
                    {name: float(values.mean()) if values.size else 0.0 for name, values in measured.items()},
                )
            )
        return found

    def _choose(self, standings: Sequence[Standing], students: int) -> int:
        """The student that is the stage's result."""
        if self._config.keep is Keep.LAST or not standings:
            if self._config.keep is Keep.BEST:
                self._progress("no validation pair is judged: the last student is kept, unproven", None)
            return students - 1
        return validation.best(standings)

    def _leave(self, adapter: Path | None) -> None:
        """The chosen student's adapter in `refine/adapter`, whole; none where the distilled student stays."""
        final, draft = self._folder / "adapter", self._folder / "adapter.draft"
        for old in (final, draft):
            shutil.rmtree(old, ignore_errors=True)
        if adapter is not None:
            shutil.copytree(adapter, draft)
            draft.replace(final)

    def _finish(self, folder: Path, step: str, figures: dict[str, Any], made: Sequence[Path]) -> dict[str, Any]:
        self._watch.save()
        return steps.finish(folder, step, figures, made)


def _pairs(groups: Sequence[JudgedGroup]) -> list[JudgedPair]:
    return list(chain.from_iterable(group.pairs for group in groups))
