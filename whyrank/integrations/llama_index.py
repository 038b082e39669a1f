"""LlamaIndex: `WhyRankReranker`, a node postprocessor, for query engines and retrievers.

Needs `llama-index-core` (the extra `llama-index`). A node's score becomes the sidecar's; its metadata gets
`whyrank_score`, `whyrank_label`, `whyrank_explanation`, `whyrank_quotes`, `whyrank_status`, `whyrank_reason` and
`whyrank_ranking_id`, as far as known, which are kept out of what embeddings and language models are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.bridge.pydantic import Field
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
from typing_extensions import override

from whyrank.client import AsyncClient, Client, ClientError
from whyrank.integrations._reranking import Placed, kept, placed


class WhyRankReranker(BaseNodePostprocessor):
    """Orders nodes by a sidecar's verdicts; `top_n` None keeps all.

    `options` are further arguments of `whyrank.Client`, as `api_key`. While the sidecar does not answer, nodes keep
    order and scores, and their metadata says `whyrank_status: failed` and why: a query never fails because of it.
    """

    url: str = "http://127.0.0.1:8080"
    top_n: int | None = Field(None, ge=1)
    explain: bool = True
    deadline_ms: int | None = Field(None, ge=0)
    mode: str | None = None
    options: dict[str, Any] = Field(default_factory=dict, exclude=True, repr=False)

    @classmethod
    @override
    def class_name(cls) -> str:
        """The name under which LlamaIndex keeps it."""
        return "WhyRankReranker"

    @override
    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = "" if query_bundle is None else query_bundle.query_str
        if not nodes or not query.strip():
            return nodes
        texts = [node.node.get_content(MetadataMode.NONE) for node in nodes]
        try:
            with Client(self.url, **self.options) as client:
                return _renewed(nodes, placed(client.rerank(query, texts, **self._asked())))
        except ClientError as error:
            return _renewed(nodes, kept(texts, self.top_n, error))

    @override
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = "" if query_bundle is None else query_bundle.query_str
        if not nodes or not query.strip():
            return nodes
        texts = [node.node.get_content(MetadataMode.NONE) for node in nodes]
        try:
            async with AsyncClient(self.url, **self.options) as client:
                return _renewed(nodes, placed(await client.rerank(query, texts, **self._asked())))
        except ClientError as error:
            return _renewed(nodes, kept(texts, self.top_n, error))

    def _asked(self) -> dict[str, Any]:
        return {
            "top_n": self.top_n,
            "explain": self.explain,
            "deadline_ms": self.deadline_ms,
            "mode": self.mode,
        }


def _renewed(nodes: Sequence[NodeWithScore], places: Sequence[Placed]) -> list[NodeWithScore]:
    renewed = []
    for place in places:
        given = nodes[place.index]
        node = given.node.model_copy(
            update={
                "metadata": {**given.node.metadata, **place.metadata},
                "excluded_llm_metadata_keys": [*given.node.excluded_llm_metadata_keys, *place.metadata],
                "excluded_embed_metadata_keys": [*given.node.excluded_embed_metadata_keys, *place.metadata],
            }
        )
        renewed.append(NodeWithScore(node=node, score=given.score if place.score is None else place.score))
    return renewed
