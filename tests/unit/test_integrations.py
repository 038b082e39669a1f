"""The adapters for LangChain and LlamaIndex, each with its real library, against the real application."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import httpx
from langchain_core.documents import Document
from llama_index.core import schema

from tests.fakes.sidecar import Sidecar
from whyrank.client import UnreachableError
from whyrank.integrations import langchain as langchain_adapter
from whyrank.integrations import llama_index as llama_adapter
from whyrank.integrations._reranking import kept

TEXTS = ["Nothing here. At all.", "You sort a list by list.sort. It is stable.", "A list holds items."]


class Bridge(httpx.BaseTransport):
    """The application for a client that blocks: each request on an event loop of its own."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app=self._sidecar.app)) as client:
                answer = await client.request(
                    request.method, request.url, content=request.read(), headers=dict(request.headers)
                )
                return httpx.Response(answer.status_code, content=answer.content, headers=answer.headers)

        found: list[httpx.Response] = []
        thread = threading.Thread(target=lambda: found.append(asyncio.run(ask())))
        thread.start()
        thread.join()
        return found[0]


def both(sidecar: Sidecar) -> Iterator[tuple[str, dict[str, Any]]]:
    """Options of either client that reach this sidecar."""
    yield "sync", {"transport": Bridge(sidecar)}
    yield "async", {"transport": httpx.ASGITransport(app=sidecar.app)}


def refusing(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


async def langchain(how: str, documents: Any, query: str, **options: Any) -> Any:
    reranker = langchain_adapter.WhyRankReranker(**options)
    if how == "sync":
        return reranker.compress_documents(documents, query)
    return await reranker.acompress_documents(documents, query)


async def llama(how: str, nodes: Any, query: str, **options: Any) -> Any:
    reranker = llama_adapter.WhyRankReranker(**options)
    if how == "sync":
        return reranker.postprocess_nodes(nodes, query_str=query)
    return await reranker.apostprocess_nodes(nodes, query_str=query)


def langchain_documents() -> list[Any]:
    return [Document(page_content=text, metadata={"page": n}, id=str(n)) for n, text in enumerate(TEXTS)]


def llama_nodes() -> list[Any]:
    nodes = [schema.TextNode(text=text, id_=str(n), metadata={"page": n}) for n, text in enumerate(TEXTS)]
    return [schema.NodeWithScore(node=node, score=1.0 - n / 10) for n, node in enumerate(nodes)]


async def test_langchain_documents_are_reordered_and_explained() -> None:
    given = langchain_documents()
    for how, options in both(Sidecar()):
        found = await langchain(how, given, "sort a list", url="http://sidecar", options=options)
        assert [document.id for document in found] == ["1", "2", "0"]
        first = found[0].metadata
        assert (first["page"], first["whyrank_label"], first["whyrank_status"]) == (1, 2, "complete")
        assert first["whyrank_explanation"] == 'The document states "You sort a list by list".'
        assert first["whyrank_quotes"] == ["You sort a list by list"]
        assert first["whyrank_score"] > found[2].metadata["whyrank_score"]
        assert first["whyrank_ranking_id"]
        top = await langchain(how, given, "sort a list", url="http://sidecar", top_n=1, explain=False, options=options)
        assert [document.id for document in top] == ["1"]
        assert "whyrank_explanation" not in top[0].metadata
    assert [document.metadata for document in given] == [{"page": n} for n in range(3)]


async def test_langchain_keeps_the_order_while_the_sidecar_is_down() -> None:
    for how in ("sync", "async"):
        options = {"transport": httpx.MockTransport(refusing)}
        found = await langchain(how, langchain_documents(), "q", url="http://sidecar", top_n=2, options=options)
        assert [document.id for document in found] == ["0", "1"]
        assert found[0].metadata["whyrank_status"] == "failed"
        assert found[0].metadata["whyrank_reason"].startswith("UnreachableError: no sidecar answers")
        assert found[0].metadata["page"] == 0


async def test_langchain_without_words_or_documents_asks_nobody() -> None:
    given = langchain_documents()
    for how in ("sync", "async"):
        options = {"transport": httpx.MockTransport(refusing)}
        assert await langchain(how, [], "q", options=options) == []
        assert await langchain(how, given, "  ", options=options) == given


async def test_llama_nodes_are_reordered_and_explained() -> None:
    given = llama_nodes()
    for how, options in both(Sidecar()):
        found = await llama(how, given, "sort a list", url="http://sidecar", options=options)
        assert [node.node_id for node in found] == ["1", "2", "0"]
        first = found[0]
        assert first.score == first.metadata["whyrank_score"]
        assert (first.metadata["page"], first.metadata["whyrank_label"]) == (1, 2)
        assert first.metadata["whyrank_explanation"] == 'The document states "You sort a list by list".'
    for mode in (schema.MetadataMode.LLM, schema.MetadataMode.EMBED):
        shown = first.node.get_content(metadata_mode=mode)
        assert "page" in shown
        assert "whyrank" not in shown
    assert [(node.score, node.metadata) for node in given] == [(1.0 - n / 10, {"page": n}) for n in range(3)]


async def test_llama_keeps_order_and_scores_while_the_sidecar_is_down() -> None:
    for how in ("sync", "async"):
        options = {"transport": httpx.MockTransport(refusing)}
        found = await llama(how, llama_nodes(), "q", url="http://sidecar", options=options)
        assert [(node.node_id, node.score) for node in found] == [("0", 1.0), ("1", 0.9), ("2", 0.8)]
        assert found[0].metadata["whyrank_status"] == "failed"


async def test_llama_without_words_or_nodes_asks_nobody() -> None:
    given = llama_nodes()
    for how in ("sync", "async"):
        options = {"transport": httpx.MockTransport(refusing)}
        assert await llama(how, [], "q", options=options) == []
        assert await llama(how, given, "", options=options) == given


def test_a_key_is_not_in_what_is_shown_or_kept_of_an_adapter() -> None:
    for adapter in (langchain_adapter, llama_adapter):
        reranker = adapter.WhyRankReranker(options={"api_key": "s3cret"})
        assert "s3cret" not in repr(reranker) + str(reranker.model_dump()) + reranker.model_dump_json()


def test_a_sidecar_that_is_down_is_told_for_each_text() -> None:
    places = kept(["a", "b", "c"], 2, UnreachableError("no sidecar answers"))
    assert [(place.index, place.score) for place in places] == [(0, None), (1, None)]
    assert places[0].metadata == {
        "whyrank_status": "failed",
        "whyrank_reason": "UnreachableError: no sidecar answers",
    }
