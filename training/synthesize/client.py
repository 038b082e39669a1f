"""The teacher's server: OpenAI's own client, which retries, behind a limit of requests and tokens a minute."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import msgspec
import openai
from aiolimiter import AsyncLimiter
from openai import AsyncOpenAI

from training.stages import StageError
from training.synthesize.config import SynthesizeConfig
from training.synthesize.questions import Messages, prompt_tokens
from whyrank.errors import BadRequestError
from whyrank.passages import estimate_tokens
from whyrank.settings import Settings
from whyrank.verdict import TokenLogprob

_TOP = 5
_MINUTE_S = 60.0
_ERROR_CHARS = 300
_NO_KEY = "unset"
"""Sent where no key is set: the client insists on one, servers without authentication do not look at it."""


class NoAnswerError(Exception):
    """A call came to nothing.

    `refused`: the server will not answer this very prompt. `garbled`: it answered what cannot be read, and may do
    better when it is asked again; all else has been tried again as often as the config says.
    """

    def __init__(self, message: str, *, refused: bool = False, garbled: bool = False) -> None:
        super().__init__(message)
        self.refused = refused
        self.garbled = garbled


class Reply(msgspec.Struct, frozen=True):
    """One answer; tokens are counted by the server, and estimated where it does not count."""

    text: str
    tokens: tuple[TokenLogprob, ...]
    prompt_tokens: int
    completion_tokens: int


class _Alternative(msgspec.Struct):
    token: str
    logprob: float


class _Token(msgspec.Struct):
    token: str
    logprob: float
    top_logprobs: list[_Alternative] = []


class _Logprobs(msgspec.Struct):
    content: list[_Token] | None = None


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    logprobs: _Logprobs | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


class TeacherClient:
    """Asks the teacher; use it as `async with`. Raises BadRequestError when no address or no model is given."""

    def __init__(self, config: SynthesizeConfig, settings: Settings) -> None:
        if not settings.teacher_url:
            raise BadRequestError("WHYRANK_TEACHER_URL", "the address of the teacher is needed, with /v1")
        if not config.model:
            raise BadRequestError("synthesize.model", "the name of the teacher's model is needed")
        self._config = config
        self._url = settings.teacher_url
        key = settings.teacher_api_key
        self._client = AsyncOpenAI(
            api_key=key.get_secret_value() if key else _NO_KEY,
            base_url=settings.teacher_url,
            timeout=config.timeout_s,
            max_retries=config.retries,
        )
        self._requests = _limiter(config.requests_per_minute)
        self._tokens = _limiter(config.tokens_per_minute)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        await self._client.close()

    async def ask(self, messages: Messages, temperature: float) -> Reply:
        """One answer, when the limits let the question through.

        Raises NoAnswerError, and StageError where no question can ever be answered: wrong key, address or model.
        """
        expected = prompt_tokens(messages) + self._config.max_tokens
        if self._requests:
            await self._requests.acquire()
        if self._tokens:
            await self._tokens.acquire(min(float(expected), self._tokens.max_rate))
        return _reply(messages, await self._complete(messages, temperature))

    async def _complete(self, messages: Messages, temperature: float) -> bytes:
        """The body of the server's answer, whatever it is."""
        probabilities: dict[str, Any] = {"logprobs": True, "top_logprobs": _TOP} if self._config.logprobs else {}
        try:
            # The body itself: the client would make an object of whatever it holds
            response = await self._client.chat.completions.with_raw_response.create(
                model=self._config.model,
                messages=messages,  # type: ignore[arg-type]  # its own form of the same dictionaries
                temperature=temperature,
                max_tokens=self._config.max_tokens,
                **probabilities,
            )
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise StageError(f"{self._words(error)}; check WHYRANK_TEACHER_API_KEY") from error
        except openai.NotFoundError as error:
            raise StageError(f"{self._words(error)}; check WHYRANK_TEACHER_URL and synthesize.model") from error
        except openai.APIStatusError as error:
            refused = 400 <= error.status_code < 500 and error.status_code not in (408, 409, 429)
            raise NoAnswerError(self._words(error), refused=refused) from error
        except openai.APITimeoutError as error:
            raise NoAnswerError(f"{self._url} did not answer within {self._config.timeout_s:g} s") from error
        except openai.APIConnectionError as error:
            raise NoAnswerError(f"{self._url} cannot be reached: {error.__cause__ or error}") from error
        return response.content

    def _words(self, error: openai.APIStatusError) -> str:
        return f"{self._url} answered {error.status_code}: {' '.join(error.response.text.split())[:_ERROR_CHARS]}"


def _limiter(per_minute: float | None) -> AsyncLimiter | None:
    return AsyncLimiter(per_minute, _MINUTE_S) if per_minute else None


def _reply(messages: Messages, body: bytes) -> Reply:
    try:
        completion = msgspec.json.decode(body, type=_Completion)
        choice = completion.choices[0]
    except (msgspec.DecodeError, IndexError) as error:
        excerpt = " ".join(body[:_ERROR_CHARS].decode("utf-8", "replace").split())
        message = f"the teacher's answer is not of the OpenAI protocol: {excerpt!r}"
        raise NoAnswerError(message, garbled=True) from error
    text = choice.message.content or ""
    usage = completion.usage or _Usage()
    content = (choice.logprobs and choice.logprobs.content) or []
    return Reply(
        text=text,
        tokens=tuple(_token(token) for token in content),
        prompt_tokens=usage.prompt_tokens or prompt_tokens(messages),
        completion_tokens=usage.completion_tokens or estimate_tokens(text),
    )


def _token(token: _Token) -> TokenLogprob:
    top = {alternative.token: alternative.logprob for alternative in token.top_logprobs}
    return TokenLogprob(token.token, top or {token.token: token.logprob})
