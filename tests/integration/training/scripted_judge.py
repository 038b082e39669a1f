"""A small HTTP server of the OpenAI protocol that judges by a rule.

It is no model: a document that shares no long word with the query has label 0, else 2 where it says "satellites", 1
where it says "museum", 0 otherwise. It quotes the document's last line, or words of its own where that says "misquote".
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_PAIR = re.compile(r"Query: (.*?)\n\n<document>\n(.*?)\n</document>", re.DOTALL)
_WORD = re.compile(r"[a-z]{5,}")


class ScriptedJudge:
    """`asked` counts requests by (query, document). `on_request` is called before each; `down` answers 503 to all."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()
        self.requests: list[dict[str, Any]] = []
        self.answered = 0
        self.down = False
        self.on_request: Callable[[], None] = lambda: None
        self.url = ""
        self._lock = threading.Lock()

    def complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        self.on_request()
        with self._lock:
            if self.down:
                return 503, {"error": {"message": "down, says the test"}}
            found = _PAIR.search(body["messages"][-1]["content"])
            assert found
            self.asked[found[1], found[2]] += 1
            self.requests.append(body)
            self.answered += 1
        text = answer(found[1], found[2], explain="{explanation}" in body["messages"][0]["content"])
        message = {"message": {"content": text}, "finish_reason": "stop", "logprobs": {"content": tokens(text)}}
        return 200, {"choices": [message], "usage": {"prompt_tokens": 50, "completion_tokens": len(text)}}


def answer(query: str, document: str, *, explain: bool = True) -> str:
    shared = set(_WORD.findall(query.lower())) & set(_WORD.findall(document.lower()))
    rule = 2 if "satellites" in document else 1 if "museum" in document else 0
    label = f"Relevance Label: {rule if shared else 0}"
    if not explain:
        return label
    if "garbage" in document:
        return "I would rather not say."
    quote = "words that nobody wrote" if "misquote" in document else document.splitlines()[-1].split(".")[0]
    return f'The document states "{quote}". {label}'


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
def serving(judge: ScriptedJudge) -> Iterator[ScriptedJudge]:
    """The judge behind an address of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, found = judge.complete(body)
            data = json.dumps(found).encode()
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
            except (BrokenPipeError, ConnectionResetError):  # the evaluation was killed
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    judge.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield judge
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
