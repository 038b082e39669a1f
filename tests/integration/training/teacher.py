"""A small HTTP server that speaks the OpenAI protocol and judges by shared words, with the faults a test asks for.

A passage's name is its first word, `doc-something`. `faults` says, by that name, what its first answers are; an
answer that is not a fault quotes the passage's first sentence.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter, defaultdict

from aiohttp import web

KEY = "sk-very-secret"
MODEL = "teacher-70b"
QUERIES = """1. How can writes to the disk be spread over time?
2. How can writes to disk be spread over the time?
- Tune spikes"""
USAGE = {"prompt_tokens": 300, "completion_tokens": 40}


class TeacherServer:
    """`seen` counts requests by query and document, `answered` those that were answered 200."""

    def __init__(self) -> None:
        self.faults: dict[str, list[str]] = {}
        self.always: str | None = None
        self.logprobs = True
        self.hold_after: int | None = None
        self.held = 0
        self.seen: Counter[tuple[str, str]] = Counter()
        self.answered: Counter[tuple[str, str]] = Counter()
        self.temperatures: dict[str, list[float]] = defaultdict(list)
        self.keys: set[str | None] = set()
        self.bodies: list[dict] = []
        self.release = asyncio.Event()
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> TeacherServer:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        self.release.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self.bodies.append(body)
        self.keys.add(request.headers.get("Authorization"))
        user = body["messages"][-1]["content"]
        match = re.match(r"(?:Query|Question): (.*?)\n\n<document(s?)>\n(.*?)\n</documents?>", user, re.DOTALL)
        assert match is not None, user
        query, writes, text = match[1], bool(match[2]), match[3]
        document = "queries" if writes else text.split()[0]
        self.seen[query, document] += 1
        self.temperatures[document].append(body["temperature"])
        if self.hold_after is not None and sum(self.answered.values()) >= self.hold_after:
            self.held += 1
            await self.release.wait()
            return web.json_response({}, status=500)
        faults = self.faults.get(document)
        fault = self.always or (faults.pop(0) if faults else None)
        if fault is not None and (response := await self._fault(fault)) is not None:
            return response
        self.answered[query, document] += 1
        return web.json_response(self._answer(QUERIES if writes else _judgement(query, text, fault), body))

    async def _fault(self, fault: str) -> web.StreamResponse | None:
        if fault.isdecimal():
            headers = {"Retry-After": "1"} if fault == "429" else {}
            return web.json_response({"error": {"message": "by the test"}}, status=int(fault), headers=headers)
        if fault == "garbage":
            return web.Response(text="<html>not json", content_type="text/html")
        if fault == "no choices":
            return web.json_response({"choices": []})
        if fault == "hang":
            await self.release.wait()
            return web.json_response({}, status=500)
        return None

    def _answer(self, text: str, body: dict) -> dict:
        choice: dict = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        if self.logprobs and body.get("logprobs"):
            choice["logprobs"] = {"content": [_token(token) for token in re.findall(r"\s*\S+?(?=\s|$|\d)|\s*\d", text)]}
        return {"id": "x", "object": "chat.completion", "model": MODEL, "choices": [choice], "usage": USAGE}


def _judgement(query: str, text: str, fault: str | None) -> str:
    sentence = text.split(". ", maxsplit=1)[0].rstrip(".")
    label = min(2, len(set(query.lower().split()) & set(text.lower().replace(".", "").split())))
    match fault:
        case "wrong label":
            return f'It states "{sentence}".\n\nRelevance Label: 7 ##'
        case "no label":
            return f'It states "{sentence}".'
        case "ungrounded":
            return 'It states "words that stand in no passage at all".\n\nRelevance Label: 2 ##'
        case "unquoted":
            return "It is relevant.\n\nRelevance Label: 2 ##"
        case "thinking":
            sentence = f'</think>It states "{sentence}".\n\nRelevance Label: {label} ##\nRelevance Label: 0'
            return f"<think>Is it ## Relevance Label: 1? {sentence}"
    return f'It states "{sentence}".\n\nRelevance Label: {label} ##'


def _token(token: str) -> dict:
    others = {"0": -3.0, "1": -3.0, "2": -3.0} if token.strip() in ("0", "1", "2") else {}
    top = {**{f" {label}": logprob for label, logprob in others.items()}, token: -0.1}
    return {
        "token": token,
        "logprob": -0.1,
        "bytes": None,
        "top_logprobs": [{"token": name, "logprob": value, "bytes": None} for name, value in top.items()],
    }
