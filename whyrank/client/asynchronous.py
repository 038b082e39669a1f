"""The client for asyncio."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from whyrank.client import calls, policies
from whyrank.client.connection import CONNECT_RETRIES, Connection
from whyrank.client.errors import FailedError, UnreachableError
from whyrank.client.exchange import Call, Flow, Pause, mapped, single
from whyrank.client.policies import PolicyChanges
from whyrank.client.results import Document, Event, Health, RankingAnswer, Readiness, Reranked, Rescored
from whyrank.types import Policy

T = TypeVar("T")


class AsyncClient:
    """A sidecar, by its address, for one event loop; closed at the end of an `async with` block.

    Arguments, results and errors are those of `whyrank.Client`, method by method.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        *,
        api_key: str | None = None,
        auth: tuple[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._to = Connection(url, api_key=api_key, auth=auth, headers=headers, timeout_s=timeout_s, verify=verify)
        self._http = httpx.AsyncClient(
            transport=transport or httpx.AsyncHTTPTransport(verify=self._to.verify, retries=CONNECT_RETRIES),
            **self._to.options,
        )

    async def rerank(
        self,
        query: str,
        documents: Sequence[Document],
        *,
        top_n: int | None = None,
        explain: bool = True,
        deadline_ms: int | None = None,
        mode: str | None = None,
        max_tokens: int | None = None,
    ) -> Reranked:
        """Order documents by how well they answer the query, each with the reason."""
        return await self._single(
            calls.rerank(
                query,
                documents,
                top_n=top_n,
                explain=explain,
                deadline_ms=deadline_ms,
                mode=mode,
                max_tokens=max_tokens,
            )
        )

    async def rescore(
        self,
        index: str,
        query: str,
        hits: Sequence[Mapping[str, Any]],
        *,
        deadline_ms: int | None = None,
        mode: str | None = None,
        window: int | None = None,
        fields: Sequence[str] | None = None,
        tenant: str | None = None,
        user: str | None = None,
        explain: bool = True,
        ranking: str | None = None,
        offset: int = 0,
    ) -> Rescored:
        """Order hits of a search under the policy of its index, as the engine's plugin does."""
        return await self._single(
            calls.rescore(
                index,
                query,
                hits,
                deadline_ms=deadline_ms,
                mode=mode,
                window=window,
                fields=fields,
                tenant=tenant,
                user=user,
                explain=explain,
                ranking=ranking,
                offset=offset,
            )
        )

    async def ranking(self, ranking_id: str) -> RankingAnswer:
        """A ranking with every verdict that has landed since."""
        return await self._single(calls.ranking(ranking_id))

    async def events(self, ranking_id: str) -> AsyncIterator[Event]:
        """Verdicts of a ranking as they land, then its final order; `contextlib.aclosing` who leaves early."""
        from httpx_sse import EventSource  # noqa: PLC0415 - only who follows events loads their reader

        from whyrank.client.stream import SILENCE_S, Follower  # noqa: PLC0415

        follower = Follower(ranking_id)
        timeout = httpx.Timeout(SILENCE_S, connect=self._to.timeout_s)
        while not follower.done():
            try:
                with mapped(self._to.url):
                    async with self._http.stream(
                        "GET", f"{self._to.url}{follower.path}", headers=follower.headers, timeout=timeout
                    ) as answer:
                        if answer.status_code != 200:
                            await answer.aread()
                        if follower.begun(answer):
                            async with aclosing(EventSource(answer).aiter_sse()) as sending:
                                async for sent in sending:
                                    event = follower.take(sent)
                                    if event is not None:
                                        yield event
                                    if follower.done():
                                        break
            except (UnreachableError, FailedError) as error:
                await asyncio.sleep(follower.pause_s(error))

    async def health(self) -> Health:
        """Whether the sidecar's process answers."""
        return await self._single(calls.health())

    async def ready(self) -> Readiness:
        """How the sidecar and its parts fare."""
        return await self._single(calls.ready())

    async def policies(self) -> dict[str, Policy]:
        """The policies as this sidecar knows them, by index."""
        return await self._single(policies.known())

    async def policy(self, index: str) -> Policy | None:
        """The policy of an index as last written; None when it has none."""
        return await self._run(policies.get(index, self._to.timeout_s))

    async def put_policy(self, policy: Policy) -> None:
        """Write or replace the policy of `policy.index`."""
        await self._run(policies.put(policy, self._to.timeout_s))

    async def enable(self, index: str, **changes: Unpack[PolicyChanges]) -> Policy:
        """Rescore searches of this index, with these fields of its Policy."""
        return await self._run(policies.enable(index, changes, self._to.timeout_s))

    async def disable(self, index: str) -> bool:
        """Stop rescoring this index; its policy is kept, switched off."""
        return await self._run(policies.disable(index, self._to.timeout_s))

    async def delete_policy(self, index: str) -> bool:
        """Forget the policy of this index."""
        return await self._run(policies.delete(index, self._to.timeout_s))

    async def close(self) -> None:
        """Release the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _single(self, call: Call[T]) -> T:
        return await self._run(single(call, self._to.timeout_s))

    async def _run(self, flow: Flow[T]) -> T:
        answer: httpx.Response | None = None
        try:
            while True:
                step = flow.send(answer)
                answer = None
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                else:
                    answer = await self._send(step.call)
        except StopIteration as done:
            result: T = done.value
            return result

    async def _send(self, call: Call[Any]) -> httpx.Response:
        with mapped(self._to.url):
            return await self._http.request(**self._to.request(call))
