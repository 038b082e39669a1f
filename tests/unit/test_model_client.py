"""The model client against answers of the protocol, as vLLM and others give them."""

from __future__ import annotations

import json

import pytest

from whyrank.errors import ModelError, ModelRefusedError, ModelUnavailableError
from whyrank.model_client import ModelClient
from whyrank.prompt import STOP, Constraint
from whyrank.types import Mode, Passage

PASSAGE = Passage("The sky is blue because the air scatters blue light more than red light. " * 4)


class Answers:
    """A transport that gives the answers in turn, the last one again and again, and keeps the requests."""

    def __init__(self, *answers: tuple[int, object]) -> None:
        self.answers = list(answers)
        self.requests: list[dict] = []

    async def post(self, body: bytes) -> tuple[int, bytes]:
        self.requests.append(json.loads(body))
        status, answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return status, answer if isinstance(answer, bytes) else json.dumps(answer).encode()


def completion(text: str, logprobs: object = None) -> dict:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {
        "id": "x",
        "choices": [{**choice, "logprobs": logprobs}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
    }


def error(message: str) -> dict:
    return {"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}}


OK = (200, completion("Because. Relevance Label: 2"))
TOO_LONG = (400, error("This model's maximum context length is 2048 tokens. However, your prompt contains 2049"))


def client(*answers: tuple[int, object]) -> tuple[ModelClient, Answers]:
    transport = Answers(*answers)
    return ModelClient(transport, "whyrank", 96), transport


async def test_the_request_is_greedy_and_asks_for_probabilities() -> None:
    model, transport = client(OK)
    answer = await model.ask("why", PASSAGE, Mode.REASON, Constraint.NONE)
    (request,) = transport.requests
    assert request["model"] == "whyrank"
    assert request["temperature"] == 0
    assert request["stop"] == [STOP]
    assert request["logprobs"] is True
    assert request["top_logprobs"] >= 3
    assert request["max_tokens"] >= 96
    assert PASSAGE.text.strip() in request["messages"][-1]["content"]
    assert "structured_outputs" not in request
    assert (answer.text, answer.passage, answer.prompt_tokens) == ("Because. Relevance Label: 2", PASSAGE, 7)


async def test_label_mode_asks_for_a_few_tokens() -> None:
    model, transport = client(OK)
    await model.ask("why", PASSAGE, Mode.LABEL, Constraint.LABEL)
    assert transport.requests[0]["max_tokens"] < 20
    assert "[012]" in transport.requests[0]["structured_outputs"]["regex"]


async def test_tokens_carry_the_alternatives_and_themselves() -> None:
    content = [
        {"token": " ", "logprob": -0.5, "top_logprobs": []},
        {
            "token": "2",
            "logprob": -0.1,
            "top_logprobs": [{"token": "2", "logprob": -0.1}, {"token": "1", "logprob": -9999.0}],
        },
    ]
    model, _ = client((200, completion("2", {"content": content})))
    tokens = (await model.ask("why", PASSAGE, Mode.LABEL, Constraint.NONE)).tokens
    assert [(t.token, t.top) for t in tokens] == [(" ", {" ": -0.5}), ("2", {"2": -0.1, "1": -9999.0})]


@pytest.mark.parametrize("logprobs", [None, {"content": None}, {"content": []}])
async def test_a_server_without_probabilities_is_no_fault(logprobs: object) -> None:
    model, _ = client((200, completion("2", logprobs)))
    assert (await model.ask("why", PASSAGE, Mode.LABEL, Constraint.NONE)).tokens == ()


async def test_a_long_prompt_is_tried_once_with_half_of_the_passage() -> None:
    model, transport = client(TOO_LONG, OK)
    answer = await model.ask("why", PASSAGE, Mode.REASON, Constraint.NONE)
    assert answer.passage.truncated
    assert PASSAGE.text.startswith(answer.passage.text)
    assert len(PASSAGE.text) / 3 < len(answer.passage.text) <= len(PASSAGE.text) / 2
    assert len(transport.requests) == 2

    model, transport = client(TOO_LONG)
    with pytest.raises(ModelRefusedError) as refusal:
        await model.ask("why", PASSAGE, Mode.REASON, Constraint.NONE)
    assert refusal.value.too_long
    assert len(transport.requests) == 2


async def test_a_server_without_constraints_is_asked_without_them_from_then_on() -> None:
    unknown = (400, error("Unrecognized request argument supplied: structured_outputs"))
    model, transport = client(unknown, OK)
    await model.ask("why", PASSAGE, Mode.REASON, Constraint.LABEL)
    await model.ask("why", PASSAGE, Mode.REASON, Constraint.LABEL)
    assert ["structured_outputs" in request for request in transport.requests] == [True, False, False]


async def test_a_grammar_that_fails_for_one_passage_is_left_out_for_it_alone() -> None:
    model, transport = client((400, error("Grammar error: invalid regex")), OK)
    await model.ask("why", PASSAGE, Mode.REASON, Constraint.QUOTE)
    await model.ask("why", PASSAGE, Mode.REASON, Constraint.QUOTE)
    assert ["structured_outputs" in request for request in transport.requests] == [True, False, True]


@pytest.mark.parametrize("status", [301, 401, 403, 404, 408, 429, 500, 502, 503, 504])
async def test_what_is_worth_a_retry(status: int) -> None:
    model, _ = client((status, error("…")))
    with pytest.raises(ModelUnavailableError) as raised:
        await model.ask("why", PASSAGE, Mode.REASON, Constraint.NONE)
    assert raised.value.suspect == (status == 500)


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_what_is_not(status: int) -> None:
    model, _ = client((status, error("no")))
    with pytest.raises(ModelRefusedError) as raised:
        await model.ask("why", PASSAGE, Mode.REASON, Constraint.NONE)
    assert raised.value.too_long == (status == 413)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"\xff", {}, {"choices": []}, {"choices": [{"message": {"content": 3}}]}]
)
async def test_an_answer_that_is_not_of_the_protocol(body: object) -> None:
    model, _ = client((200, body))
    with pytest.raises(ModelError) as raised:
        await model.ask("why", PASSAGE, Mode.REASON, Constraint.NONE)
    assert not isinstance(raised.value, ModelUnavailableError | ModelRefusedError)


async def test_several_answers_are_drawn_in_one_request() -> None:
    content = [{"token": "2", "logprob": -0.1, "top_logprobs": []}]
    drawn = completion("First. Relevance Label: 2", {"content": content})
    drawn["choices"].append({"index": 1, "message": {"content": "Second"}, "finish_reason": "length"})
    drawn["usage"]["completion_tokens"] = 9
    model, transport = client((200, drawn))
    first, second = await model.sample("why", PASSAGE, Mode.REASON, Constraint.NONE, count=2, temperature=1.0, seed=5)
    (request,) = transport.requests
    assert (request["n"], request["temperature"], request["seed"]) == (2, 1.0, 5)
    assert request["stop"] == [STOP]
    assert (first.text, first.finished, first.prompt_tokens, first.completion_tokens) == (
        "First. Relevance Label: 2",
        True,
        7,
        1,
    )
    assert (second.text, second.finished, second.prompt_tokens) == ("Second", False, 0)


async def test_a_server_that_draws_too_few_answers_is_not_of_the_protocol() -> None:
    model, _ = client(OK)
    with pytest.raises(ModelError, match="1 answers of the 3"):
        await model.sample("why", PASSAGE, Mode.REASON, Constraint.NONE, count=3, temperature=1.0)


async def test_drawing_falls_back_as_asking_does() -> None:
    model, transport = client(TOO_LONG, OK)
    (answer,) = await model.sample("why", PASSAGE, Mode.REASON, Constraint.NONE, count=1, temperature=0.7)
    assert answer.passage.truncated
    assert [request["temperature"] for request in transport.requests] == [0.7, 0.7]
