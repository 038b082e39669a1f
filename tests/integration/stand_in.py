"""A small HTTP server that speaks the OpenAI protocol, for tests that must control the model server's time and faults.

It is no model: every document gets the same words and label 2.
Also a program of its own for bench/: `python -m tests.integration.stand_in PORT LATENCY_S`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

from aiohttp import web

MODEL = "whyrank"


class StandIn:
    """`latency_s` is slept for each answer; `status` other than 200 refuses; `hold` holds answers back.

    `refusals` are statuses for single documents. A document's name is its first word, "doc-something".
    `most` is the largest number of requests seen in flight at once; `seen` counts prompts by document.
    """

    def __init__(self, latency_s: float = 0.0) -> None:
        self.latency_s = latency_s
        self.status = 200
        self.words = "refused by the test"
        self.refusals: dict[str, int] = {}
        self.hold: asyncio.Event | None = None
        self.in_flight = 0
        self.most = 0
        self.seen: Counter[str] = Counter()
        self.order: list[str] = []
        self.requests: list[dict] = []
        self.keys: list[str | None] = []
        self.keep_requests = True
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self, port: int = 0) -> StandIn:
        app = web.Application(client_max_size=10_000_000)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._complete)
        # Left to its own devices it waits for handlers that the test still holds.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _models(self, _: web.Request) -> web.Response:
        if self.status != 200:
            return web.json_response({}, status=self.status)
        return web.json_response({"object": "list", "data": [{"id": MODEL}]})

    async def _complete(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        prompt = body["messages"][-1]["content"]
        document = prompt[prompt.index("doc-") :].split()[0] if "doc-" in prompt else prompt
        if self.keep_requests:
            self.requests.append(body)
            self.keys.append(request.headers.get("Authorization"))
            self.seen[document] += 1
            self.order.append(document)
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            if self.hold is not None:
                await self.hold.wait()
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
        finally:
            self.in_flight -= 1
        status = self.refusals.get(document, self.status)
        if status != 200:
            return web.json_response({"error": {"message": self.words}}, status=status)
        return web.Response(body=_answer(), content_type="application/json")


def _answer() -> bytes:
    text = "It says so. Relevance Label: 2 "
    tokens = ["It", " says", " so.", " Relevance", " Label", ":", " ", "2", " "]
    content = [
        {
            "token": token,
            "logprob": -0.1,
            "bytes": list(token.encode()),
            "top_logprobs": [
                {"token": token if i == 0 else other, "logprob": -0.1 - 2.0 * i, "bytes": [48]}
                for i, other in enumerate((token, "1" if token == "2" else "x", "0" if token == "2" else "y"))
            ],
        }
        for token in tokens
    ]
    return json.dumps(
        {
            "id": "x",
            "object": "chat.completion",
            "model": MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "logprobs": {"content": content},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 100, "completion_tokens": len(tokens)},
        }
    ).encode()


async def _main(port: int, latency_s: float) -> None:
    server = StandIn(latency_s)
    server.keep_requests = False
    await server.start(port)
    print(server.url, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), float(sys.argv[2])))
