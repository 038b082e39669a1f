"""Client of a model server that speaks the OpenAI protocol with token probabilities (vLLM, llama.cpp, Ollama ...)."""

from __future__ import annotations

import re
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp
import msgspec
import structlog

from whyrank import prompt
from whyrank.errors import ModelError, ModelRefusedError, ModelUnavailableError, ModelUnknownError
from whyrank.prompt import Constraint
from whyrank.types import Mode, Passage
from whyrank.verdict import TokenLogprob

_TOP = 5
"""Alternatives asked for at each token; the three labels are the likeliest where the label stands."""
_TOO_LONG = re.compile(
    r"context.{0,12}length|max_model_len|too long|too large|maximum.{0,20}tokens|exceed", re.IGNORECASE
)
_GRAMMAR = re.compile(r"structured.?output|grammar|guided|regex", re.IGNORECASE)
_UNKNOWN_FIELD = re.compile(
    r"unrecogni[sz]ed|unknown|unsupported|not supported|unexpected|extra|not permitted", re.IGNORECASE
)
_NOT_THE_PROMPT = frozenset({401, 403, 404, 408, 425, 429})
"""Refusals that are about our key, the model's name or the server's load: worth a retry once that is mended."""
_ERROR_CHARS = 500
_log = structlog.get_logger(__name__)


class Answer(msgspec.Struct, frozen=True):
    """What the model wrote, token by token, and the passage that it really read."""

    text: str
    tokens: tuple[TokenLogprob, ...]
    passage: Passage
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finished: bool = True
    """The model ended the answer itself; False where it was cut for its length."""


class _Alternative(msgspec.Struct):
    token: str
    logprob: float


class _Token(msgspec.Struct):
    token: str
    logprob: float
    top_logprobs: list[_Alternative] = []

    def read(self) -> TokenLogprob:
        top = {alternative.token: alternative.logprob for alternative in self.top_logprobs}
        return TokenLogprob(self.token, top or {self.token: self.logprob})


class _Logprobs(msgspec.Struct):
    content: list[_Token] | None = None


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


class Transport(Protocol):
    """How a request gets to the model server."""

    async def post(self, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to `body`, sent as JSON. Raises ModelUnavailableError."""
        ...


class HttpTransport:
    """One keep-alive connection pool; use it as `async with`.

    `url` is the server's, with /v1. `timeout_s` bounds one answer. The requests in flight are as many as the
    caller's: it is the server that batches and queues them.

    aiohttp, because a call costs it 0.3 ms of CPU where httpx takes 3.5 with 64 in flight.
    """

    def __init__(self, url: str, api_key: str | None, timeout_s: float) -> None:
        self._url = url.rstrip("/") + "/chat/completions"
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(5.0, timeout_s))
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=self._timeout,
            headers=self._headers,
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60.0),
        )
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def post(self, body: bytes) -> tuple[int, bytes]:
        """See the protocol."""
        if self._session is None:
            raise RuntimeError("HttpTransport is used outside of `async with`")
        try:
            async with self._session.post(self._url, data=body) as response:
                return response.status, await response.read()
        except TimeoutError as error:
            connecting = isinstance(error, aiohttp.ConnectionTimeoutError)
            raise ModelUnavailableError("the model server did not answer in time", suspect=not connecting) from error
        except (aiohttp.ClientError, OSError) as error:
            raise ModelUnavailableError(f"the model server cannot be reached: {error}") from error


class ModelClient:
    """Asks the model about pairs. `explanation_tokens` is the budget of an explanation.

    `model` is the name that is asked for where a call names none.
    """

    def __init__(self, transport: Transport, model: str, explanation_tokens: int) -> None:
        self._transport = transport
        self._model = model
        self._explanation_tokens = explanation_tokens
        self._constrains = True
        self._decode = msgspec.json.Decoder(_Completion).decode
        self._encode = msgspec.json.Encoder().encode

    async def ask(
        self, query: str, passage: Passage, mode: Mode, constraint: Constraint, model: str | None = None
    ) -> Answer:
        """The answer on one pair, of the model that the server knows as `model`.

        A prompt that is too long is tried once more with half of the passage, marked as truncated. A server
        that does not know constrained decoding is asked without it from then on.

        Raises ModelUnavailableError (ModelUnknownError where no model has that name), ModelRefusedError, or
        ModelError for an answer that is not of the protocol.
        """
        return (await self._ask(query, passage, mode, constraint, {"temperature": 0, "model": model or self._model}))[0]

    async def sample(
        self,
        query: str,
        passage: Passage,
        mode: Mode,
        constraint: Constraint,
        *,
        count: int,
        temperature: float,
        seed: int | None = None,
    ) -> tuple[Answer, ...]:
        """`count` answers on one pair, drawn at `temperature` in one request; otherwise as `ask`.

        The prompt's tokens are counted with the first answer alone: the server reads it once.
        """
        drawn: dict[str, Any] = {"n": count, "temperature": temperature}
        if seed is not None:
            drawn["seed"] = seed
        answers = await self._ask(query, passage, mode, constraint, drawn)
        if len(answers) != count:
            raise ModelError(f"the model server gave {len(answers)} answers of the {count} asked for")
        return answers

    async def _ask(
        self, query: str, passage: Passage, mode: Mode, constraint: Constraint, decoding: dict[str, Any]
    ) -> tuple[Answer, ...]:
        if not self._constrains:
            constraint = Constraint.NONE
        try:
            return await self._complete(query, passage, mode, constraint, decoding)
        except ModelRefusedError as refusal:
            if refusal.too_long:
                return await self._complete(query, _halved(passage), mode, constraint, decoding)
            words = str(refusal)
            if constraint is Constraint.NONE or not _GRAMMAR.search(words):
                raise
            if _UNKNOWN_FIELD.search(words):
                self._constrains = False
                _log.warning("model_server_without_constraints", error=words)
            return await self._complete(query, passage, mode, Constraint.NONE, decoding)

    async def _complete(
        self, query: str, passage: Passage, mode: Mode, constraint: Constraint, decoding: dict[str, Any]
    ) -> tuple[Answer, ...]:
        request: dict[str, Any] = {
            "model": self._model,
            "messages": prompt.messages(query, passage, mode, constraint),
            "max_tokens": prompt.max_tokens(mode, constraint, self._explanation_tokens),
            **decoding,
            "stop": [prompt.STOP],
            "logprobs": True,
            "top_logprobs": _TOP,
        }
        regex = prompt.response_regex(passage, mode, constraint, query, self._explanation_tokens)
        if regex is not None:
            request["structured_outputs"] = {"regex": regex}
        body = await self._post(request)
        try:
            completion = self._decode(body)
        except msgspec.DecodeError as error:
            raise ModelError(f"the model server's answer is not of the protocol: {error}") from error
        if not completion.choices:
            raise ModelError("the model server's answer is not of the protocol: it has no choice")
        return _answers(completion, passage)

    async def _post(self, request: dict[str, Any]) -> bytes:
        status, body = await self._transport.post(self._encode(request))
        if 200 <= status < 300:
            return body
        words = f"the model server answered {status}: {body[:_ERROR_CHARS].decode('utf-8', 'replace')}"
        if status == 404:
            raise ModelUnknownError(words)
        if status in _NOT_THE_PROMPT or not 400 <= status < 500:
            raise ModelUnavailableError(words, suspect=status == 500)
        raise ModelRefusedError(words, too_long=status == 413 or bool(_TOO_LONG.search(words)))


def _answers(completion: _Completion, passage: Passage) -> tuple[Answer, ...]:
    usage = completion.usage or _Usage()
    alone = len(completion.choices) == 1
    answers: list[Answer] = []
    for choice in completion.choices:
        content = (choice.logprobs and choice.logprobs.content) or []
        answers.append(
            Answer(
                text=choice.message.content or "",
                tokens=tuple(token.read() for token in content),
                passage=passage,
                prompt_tokens=0 if answers else usage.prompt_tokens,
                # The usage is that of all choices together
                completion_tokens=usage.completion_tokens if alone else len(content),
                finished=choice.finish_reason != "length",
            )
        )
    return tuple(answers)


def _halved(passage: Passage) -> Passage:
    text = passage.text[: len(passage.text) // 2]
    cut = text.rfind(" ")
    return Passage(text[:cut] if cut > len(text) // 2 else text, truncated=True)
