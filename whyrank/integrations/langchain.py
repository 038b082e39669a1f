"""LangChain: `WhyRankReranker`, a document compressor, for `ContextualCompressionRetriever` and the like.

Needs `langchain-core` (the extra `langchain`). Each document's metadata gets `whyrank_score`, `whyrank_label`,
`whyrank_explanation`, `whyrank_quotes`, `whyrank_status`, `whyrank_reason` and `whyrank_ranking_id`, as far as known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, Field
from typing_extensions import override

from whyrank.client import AsyncClient, Client, ClientError
from whyrank.integrations._reranking import Placed, kept, placed


class WhyRankReranker(BaseDocumentCompressor):
    """Orders documents by a sidecar's verdicts; `top_n` None keeps all.

    `options` are further arguments of `whyrank.Client`, as `api_key`. While the sidecar does not answer, documents
    keep the order given, and their metadata says `whyrank_status: failed` and why: a chain never fails because of it.
    """

    model_config = ConfigDict(extra="forbid")

    url: str = "http://127.0.0.1:8080"
    top_n: int | None = Field(None, ge=1)
    explain: bool = True
    deadline_ms: int | None = Field(None, ge=0)
    mode: str | None = None
    options: dict[str, Any] = Field(default_factory=dict, exclude=True, repr=False)

    @override
    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """The documents in their new order; copies, those given stay as they are."""
        if not documents or not query.strip():
            return list(documents)
        texts = [document.page_content for document in documents]
        try:
            with Client(self.url, **self.options) as client:
                return _renewed(documents, placed(client.rerank(query, texts, **self._asked())))
        except ClientError as error:
            return _renewed(documents, kept(texts, self.top_n, error))

    @override
    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """As `compress_documents`."""
        if not documents or not query.strip():
            return list(documents)
        texts = [document.page_content for document in documents]
        try:
            async with AsyncClient(self.url, **self.options) as client:
                return _renewed(documents, placed(await client.rerank(query, texts, **self._asked())))
        except ClientError as error:
            return _renewed(documents, kept(texts, self.top_n, error))

    def _asked(self) -> dict[str, Any]:
        return {
            "top_n": self.top_n,
            "explain": self.explain,
            "deadline_ms": self.deadline_ms,
            "mode": self.mode,
        }


def _renewed(documents: Sequence[Document], places: Sequence[Placed]) -> list[Document]:
    renewed = []
    for place in places:
        document = documents[place.index]
        renewed.append(document.model_copy(update={"metadata": {**document.metadata, **place.metadata}}))
    return renewed
