"""A small HTTP server of the OpenAI protocol, with vLLM's adapters, whose answers are written down beforehand.

It is no model: a document's answers depend on its name, its first word, "doc-something", and on nothing else.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Script = Callable[[str, int], str]
"""(document, number of the answer) -> its text."""


class ScriptedStudent:
    """`drawn` counts the requests by adapter, document and n; `statuses` are answered, once each, before all else.

    `on_request` is called before each completion, and may stop what it likes.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.drawn: Counter[tuple[str, str, int]] = Counter()
        self.requests: list[dict[str, Any]] = []
        self.statuses: list[int] = []
        self.takes_adapters = True
        self.adapters: dict[str, str] = {}
        self.url = ""
        self.on_request: Callable[[], None] = lambda: None
        self._lock = threading.Lock()

    def load(self, body: dict[str, Any]) -> tuple[int, Any]:
        if not self.takes_adapters:
            return 404, {"detail": "Not Found"}
        if body["lora_name"] in self.adapters:
            return 400, {"error": {"message": f"'{body['lora_name']}' has already been loaded."}}
        self.adapters[body["lora_name"]] = body["lora_path"]
        return 200, "Success"

    def unload(self, body: dict[str, Any]) -> tuple[int, Any]:
        return (200, "Success") if self.adapters.pop(body["lora_name"], None) else (404, {})

    def complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        self.on_request()
        with self._lock:
            if self.statuses:
                return self.statuses.pop(0), {"error": {"message": "refused by the test"}}
            document = body["messages"][-1]["content"].split("doc-")[1].split()[0]
            count = body.get("n", 1)
            self.requests.append(body)
            self.drawn[body["model"], f"doc-{document}", count] += 1
        texts = [self.script(f"doc-{document}", number) for number in range(count)]
        return 200, {
            "choices": [
                {"message": {"content": text}, "finish_reason": "stop", "logprobs": {"content": tokens(text)}}
                for text in texts
            ],
            "usage": {"prompt_tokens": 50, "completion_tokens": sum(len(tokens(text)) for text in texts)},
        }


def tokens(text: str) -> list[dict[str, Any]]:
    """The answer's characters as tokens; the label is likely by 0.8, the others by 0.1 each."""
    found: list[dict[str, Any]] = []
    for at, char in enumerate(text):
        top = [{"token": char, "logprob": -0.01}]
        if char in "012" and text[:at].endswith("Relevance Label: "):
            top = [{"token": label, "logprob": -0.2231 if label == char else -2.3026} for label in "012"]
        found.append({"token": char, "logprob": -0.01, "top_logprobs": top})
    return found


@contextmanager
def serving(student: ScriptedStudent) -> Iterator[ScriptedStudent]:
    """The student behind an address of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            work = {
                "/v1/load_lora_adapter": student.load,
                "/v1/unload_lora_adapter": student.unload,
                "/v1/chat/completions": student.complete,
            }[self.path]
            status, answer = work(body)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (BrokenPipeError, ConnectionResetError):  # the stage was killed
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False  # so that closing waits for them, and leaves no socket open
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    student.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield student
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
