"""Asking a served model about pairs, each once: what it said is kept, and a killed evaluation goes on from there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from training import records
from training.progress import counting
from training.stages import StageError
from whyrank import verdict
from whyrank.embedded.cache import Progress, digest, exclusive
from whyrank.errors import ModelError, ModelRefusedError, ModelUnavailableError
from whyrank.keys import normalise_query
from whyrank.model_client import HttpTransport, ModelClient
from whyrank.prompt import Constraint
from whyrank.settings import Settings
from whyrank.types import FailureKind, Mode, Passage, Verdict, VerdictFailure

IN_FLIGHT = 32
_SUSPECT_ATTEMPTS = 4
"""As a worker: a prompt whose answers time out or are 500 so often is given up."""
_PAUSE_S = (0.25, 8.0)
_DETAIL_CHARS = 300

Outcome = Verdict | VerdictFailure
PairKey = tuple[str, str]
"""Hashes of the query and of the passage."""


class Pair(msgspec.Struct, frozen=True):
    """What the model is asked about."""

    query: str
    passage: Passage

    @property
    def key(self) -> PairKey:
        """Equal only where the model reads the same."""
        return digest(normalise_query(self.query)), digest(self.passage.text)


class Served(msgspec.Struct, frozen=True):
    """A model that answers."""

    url: str
    """With /v1."""
    name: str
    """As the server knows it."""
    revision: str
    constraint: Constraint
    api_key: str | None = None


class _Kept(msgspec.Struct, frozen=True):
    """One line of the store: `outcome` is one of the two."""

    mode: Mode
    query: str
    passage: str
    verdict: Verdict | None = None
    failure: VerdictFailure | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    version: int = records.RECORDS_VERSION


class Store:
    """All that one model revision said, in one file that only grows."""

    def __init__(self, folder: Path, revision: str) -> None:
        self._path = folder / f"{revision}.jsonl"
        self._known: dict[tuple[Mode, PairKey], Outcome] = {}
        if self._path.exists():
            with records.append(self._path):
                """Drops a line that a killed run left unfinished, before it is read."""
            for kept in records.read(self._path, _Kept, verify=False):
                outcome = kept.verdict or kept.failure
                if outcome is not None:
                    self._known[kept.mode, (kept.query, kept.passage)] = outcome

    def known(self, mode: Mode) -> Mapping[PairKey, Outcome]:
        """What was said in this mode."""
        return {key: outcome for (of, key), outcome in self._known.items() if of is mode}

    def missing(self, pairs: Sequence[Pair], mode: Mode) -> list[Pair]:
        """Those that nothing was said about in this mode, each once."""
        return list({pair.key: pair for pair in pairs if (mode, pair.key) not in self._known}.values())

    async def judge(
        self,
        pairs: Sequence[Pair],
        mode: Mode,
        served: Served,
        settings: Settings,
        *,
        progress: Progress,
        patience_s: float,
    ) -> float | None:
        """Have the model say something on each pair that is not known yet; pairs a second, None when all were.

        Raises StageError when the model server stays away for `patience_s`: what it has said is kept,
        so that the same call goes on from there.
        """
        missing = self.missing(pairs, mode)
        if not missing:
            return None
        began, queue = time.monotonic(), iter(missing)
        total = len({pair.key for pair in pairs})
        with (
            exclusive(self._path.with_suffix(".lock")),
            records.append(self._path) as keep,
            counting(f"judging ({mode.value})", total, progress, unit="pairs", done=total - len(missing)) as counter,
        ):
            async with HttpTransport(served.url, served.api_key, settings.model_timeout_s) as transport:
                client = ModelClient(transport, served.name, settings.max_explanation_tokens)
                asking = _Asking(client, mode, served, patience_s=patience_s)

                async def work() -> None:
                    # One iterator for all: each takes the next pair when it is free
                    for pair in queue:
                        kept = await asking.ask(pair)
                        outcome = kept.verdict or kept.failure
                        assert outcome is not None  # noqa: S101
                        if not (isinstance(outcome, VerdictFailure) and outcome.kind is FailureKind.UNAVAILABLE):
                            keep(kept)
                        self._known[mode, pair.key] = outcome
                        counter.advance()

                try:
                    async with asyncio.TaskGroup() as group:
                        for _ in range(min(IN_FLIGHT, len(missing))):
                            group.create_task(work())
                except* StageError as errors:
                    raise errors.exceptions[0] from None
        return len(missing) / (time.monotonic() - began)


class _Asking:
    """The worker's rules on answers and refusals, for a caller who waits until the server is back."""

    def __init__(self, client: ModelClient, mode: Mode, served: Served, *, patience_s: float) -> None:
        self._client = client
        self._mode = mode
        self._served = served
        self._patience_s = patience_s
        self._last_answer = time.monotonic()

    async def ask(self, pair: Pair) -> _Kept:
        """The model's outcome on the pair. Raises StageError when nothing was answered for `patience_s`."""
        query, passage = pair.key
        suspicions, pause = 0, _PAUSE_S[0]
        while True:
            try:
                answer = await self._client.ask(pair.query, pair.passage, self._mode, self._served.constraint)
            except ModelRefusedError as error:
                kind = FailureKind.TOO_LONG if error.too_long else FailureKind.REFUSED
                failure = VerdictFailure(kind, str(error)[:_DETAIL_CHARS])
                return _Kept(self._mode, query, passage, failure=failure)
            except ModelError as error:
                suspicions += not isinstance(error, ModelUnavailableError) or error.suspect
                if suspicions >= _SUSPECT_ATTEMPTS:
                    failure = VerdictFailure(FailureKind.UNAVAILABLE, str(error)[:_DETAIL_CHARS])
                    return _Kept(self._mode, query, passage, failure=failure)
                if time.monotonic() - self._last_answer > self._patience_s:
                    raise StageError(
                        f"{error}; what was judged is kept: run it again when the server is back"
                    ) from error
                await asyncio.sleep(pause)
                pause = min(2 * pause, _PAUSE_S[1])
                continue
            self._last_answer = time.monotonic()
            outcome = verdict.parse(
                answer.text,
                answer.tokens,
                passage=answer.passage,
                mode=self._mode,
                model_revision=self._served.revision,
            )
            return _Kept(
                self._mode,
                query,
                passage,
                verdict=outcome if isinstance(outcome, Verdict) else None,
                failure=outcome if isinstance(outcome, VerdictFailure) else None,
                prompt_tokens=answer.prompt_tokens,
                completion_tokens=answer.completion_tokens,
            )
