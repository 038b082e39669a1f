"""A small HTTP server that speaks the OpenAI protocol, for tests that must control the model server's time and faults.

It is no model: every document gets the same words and label 2.
Also a program of its own: `python -m tests.integration.stand_in PORT LATENCY_S [MODEL]`.
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
    `models` are the names that it knows, others are answered as vLLM does; explanations end with the name asked for.
    `adapters` says what was loaded by vLLM's dynamic adapters (name to path), `unloadable` are paths that it refuses.
    """

    def __init__(self, latency_s: float = 0.0) -> None:
        self.latency_s = latency_s
        self.status = 200
        self.models = [MODEL]
        self.adapters: dict[str, str] = {}
        self.unloadable: set[str] = set()
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
        app.router.add_get("/health", self._models)
        app.router.add_post("/v1/load_lora_adapter", self._load)
        app.router.add_post("/v1/unload_lora_adapter", self._unload)
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
        return web.json_response({"object": "list", "data": [{"id": name} for name in self._names()]})

    def _names(self) -> list[str]:
        return [*self.models, *self.adapters]

    async def _load(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        name, path = body["lora_name"], body["lora_path"]
        if name in self._names():
            return _error(400, f"The lora adapter '{name}' has already been loaded.")
        if path in self.unloadable:
            return _error(500, "rank 64 is larger than --max-lora-rank 16")
        self.adapters[name] = path
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload(self, request: web.Request) -> web.Response:
        name = json.loads(await request.read())["lora_name"]
        if self.adapters.pop(name, None) is None:
            return _error(404, f"The lora adapter '{name}' cannot be found.")
        return web.Response(text=f"Success: LoRA adapter '{name}' removed successfully.")

    async def _complete(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        prompt = body["messages"][-1]["content"]
        document = prompt[prompt.index("doc-") :].split()[0] if "doc-" in prompt else prompt
        if self.keep_requests:
            self.requests.append(body)
            self.keys.append(request.headers.get("Authorization"))
            self.seen[document] += 1
            self.order.append(document)
        if body["model"] not in self._names():
            return _error(404, f"The model `{body['model']}` does not exist.")
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
            return _error(status, self.words)
        return web.Response(body=_answer(body["model"]), content_type="application/json")


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "code": status}}, status=status)


def _answer(model: str) -> bytes:
    tokens = ["It", " says", f" so to {model}.", " Relevance", " Label", ":", " ", "2", " "]
    text = "".join(tokens)
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
            "model": model,
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


async def _main(port: int, latency_s: float, model: str = MODEL) -> None:
    server = StandIn(latency_s)
    server.models = [model]
    server.keep_requests = False
    await server.start(port)
    print(server.url, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), float(sys.argv[2]), *sys.argv[3:]))
