"""The engine with our plugin, an index that a pipeline rescores, and a scripted server in place of the sidecar."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import httpx

Json = dict[str, Any]
Answer = tuple[int, bytes]
FIELDS = ["title", "body"]
DOCS = 40
WINDOW = 20
PATIENCE_S = 30.0


def verdict(hit: Json) -> Json:
    """What the scripted sidecar says of a hit: told apart by its id."""
    text = f"judged {hit['id']}"
    return {
        "score": 0.5,
        "relevance": 0.25,
        "label": 1,
        "grounded": True,
        "explanation": text,
        "quotes": [{"text": text, "start": 0, "end": len(text)}],
    }


def answer(asked: Json, order: list[int], **more: object) -> Answer:
    """A right answer to a request, in this order."""
    count = len(asked["hits"])
    said = {
        "status": "complete",
        "reason": "all_judged",
        "ranking_id": "r-1",
        "model_revision": "m-1",
        "took_ms": 1.5,
        "mode": "reason",
        "window": count,
        "judged": count,
        "missing": 0,
        "failed": 0,
        "truncated": 0,
        "order": order,
        "hits": [verdict(hit) for hit in asked["hits"]],
    }
    return 200, json.dumps({**said, **more}).encode()


def reverse(asked: Json) -> Answer:
    """The last hit of the engine first."""
    return answer(asked, list(range(len(asked["hits"])))[::-1])


def keep(asked: Json) -> Answer:
    """The engine's own order."""
    return answer(asked, list(range(len(asked["hits"]))))


class ScriptedSidecar:
    """A real HTTP server whose answers are a function of the requests, all of which it keeps.

    While it is held, requests wait; it can be stopped and started again on its port.
    """

    def __init__(self) -> None:
        self.script: Callable[[Json], Answer] = reverse
        self.asked: list[Json] = []
        self.headers: list[dict[str, str]] = []
        self.waiting = threading.Semaphore(0)
        self._open = threading.Event()
        self._open.set()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet: the second would wait for the first to be acknowledged

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                assert self.path == "/v1/rescore"
                outer.asked.append(asked)
                outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                outer.waiting.release()
                outer._open.wait(PATIENCE_S)
                status, body = outer.script(asked)
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

            def handle_error(self, *_: object) -> None:
                """The engine hangs up on answers that come too late."""

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Listens no more; connections that are open stay so until their requests are answered."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def reset(self) -> None:
        self.release()
        self.script = reverse
        self.asked.clear()
        self.headers.clear()
        if self._server is None:
            self.start()


@dataclass
class Engine:
    """One index whose searches the pipeline rescores."""

    http: httpx.Client
    sidecar: ScriptedSidecar
    index: str
    made: list[str] = field(default_factory=list)

    def call(self, method: str, path: str, body: object = None, **options: Any) -> httpx.Response:
        content = body if isinstance(body, (bytes, str)) else None if body is None else json.dumps(body)
        kind = "application/x-ndjson" if path.endswith(("_msearch", "_bulk")) else "application/json"
        headers = {"content-type": kind, **options.pop("headers", {})}
        return self.http.request(method, path, content=content, headers=headers, **options)

    def ok(self, method: str, path: str, body: object = None, **options: Any) -> Json:
        got = self.call(method, path, body, **options)
        assert got.status_code in (200, 201), got.text
        return cast("Json", got.json())

    def search(self, body: object, index: str | None = None, **options: Any) -> Json:
        return self.ok("POST", f"/{index or self.index}/_search", body, **options)

    def plain(self, body: object, index: str | None = None, **params: str) -> Json:
        """The engine alone."""
        return self.search(body, index, params={**params, "search_pipeline": "_none"})

    def processor(self, **settings: object) -> Json:
        """Ours, with these settings besides those that it needs."""
        return {"whyrank": {"url": self.sidecar.url, "fields": FIELDS, "window": WINDOW, **settings}}

    def pipeline(self, processor: Json | None = None, **processors: object) -> str:
        """A pipeline of both halves, unless `processors` say otherwise; gives its name."""
        name = f"whyrank-test-{uuid.uuid4().hex[:8]}"
        both = {"request_processors": [{"whyrank": {}}], "response_processors": [processor or self.processor()]}
        self.ok("PUT", f"/_search/pipeline/{name}", processors or both)
        self.made.append(f"/_search/pipeline/{name}")
        return name

    def new_index(self, docs: list[Json], **body: object) -> str:
        """Another index, with the same default pipeline."""
        name = f"whyrank-test-{uuid.uuid4().hex[:8]}"
        self.ok("PUT", f"/{name}", body)
        self.made.append(f"/{name}")
        lines = "".join(f'{{"index":{{"_id":"{n}"}}}}\n{json.dumps(doc)}\n' for n, doc in enumerate(docs))
        assert self.ok("POST", f"/{name}/_bulk", lines, params={"refresh": "true"})["errors"] is False
        return name

    def stats(self) -> Json:
        """Of the one node."""
        (node,) = self.ok("GET", "/_plugins/_whyrank/stats")["nodes"].values()
        return cast("Json", node)


def document(n: int) -> Json:
    """Fewer repetitions of the word with each, so that the engine's order is that of the numbers."""
    return {
        "title": f"title {n}",
        "body": "alpha " * (DOCS - n) + "words " * n + "Beta stands here.",
        "group": f"g{n % 3}",
        "price": n,
        "comments": [{"text": f"alpha {n}"}],
    }


MAPPINGS = {
    "properties": {
        "title": {"type": "text", "store": True},
        "group": {"type": "keyword"},
        "price": {"type": "integer"},
        "comments": {"type": "nested"},
    }
}


@contextmanager
def rescored_engine(url: str) -> Iterator[Engine]:
    """The rig on a running engine with our plugin."""
    with httpx.Client(base_url=url, timeout=60) as http:
        rig = Engine(http, ScriptedSidecar(), "")
        try:
            shards = {"number_of_shards": 1, "number_of_replicas": 0}
            settings = {**shards, "index.search.default_pipeline": rig.pipeline()}
            rig.index = rig.new_index([document(n) for n in range(DOCS)], settings=settings, mappings=MAPPINGS)
            yield rig
        finally:
            rig.sidecar.release()
            for path in reversed(rig.made):
                rig.call("DELETE", path)
            rig.sidecar.stop()


QUERY = {"match": {"body": "alpha beta"}}


def ids(found: Json) -> list[str]:
    return [hit["_id"] for hit in found["hits"]["hits"]]


def said(found: Json) -> Json:
    return cast("Json", found["ext"]["whyrank"])


def ours(hit: Json) -> Json:
    """What we say of a hit, by name."""
    return {name: value for name, value in hit.get("fields", {}).items() if name.startswith("whyrank.")}


def without_ours(found: Json) -> Json:
    """An answer as the engine alone would have given it, but for the order of its hits."""
    rest = json.loads(json.dumps(found))
    rest.pop("took")
    rest["ext"].pop("whyrank")
    if not rest["ext"]:
        del rest["ext"]
    for hit in rest["hits"]["hits"]:
        for name in ours(hit):
            del hit["fields"][name]
        if hit.get("fields") == {}:
            del hit["fields"]
    return cast("Json", rest)
