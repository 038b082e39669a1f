"""The client that blocks."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
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


class Client:
    """A sidecar, by its address. Safe to use from several threads; closed at the end of a `with` block.

    `api_key` is sent as a bearer token; `auth` is a user and a password. Either also reaches the engine with what
    passes through to it (policies). `headers` go with every request, as the one that names the tenant.
    `timeout_s` is how long an answer may take beyond its deadline, in seconds. `transport` replaces httpx's own.

    Every call raises ClientError or one of its kinds (`whyrank.client.errors`), and BadRequestError for arguments
    that cannot be sent.
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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._to = Connection(url, api_key=api_key, auth=auth, headers=headers, timeout_s=timeout_s, verify=verify)
        self._http = httpx.Client(
            transport=transport or httpx.HTTPTransport(verify=self._to.verify, retries=CONNECT_RETRIES),
            **self._to.options,
        )

    def rerank(
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
        """Order documents by how well they answer the query, each with the reason.

        All come back unless `top_n` says otherwise, also when not all could be judged by the deadline (the
        sidecar's setting unless `deadline_ms`): see `status` and `reason`. `mode` is `reason` or `label`.
        `max_tokens` lowers how much of each document the model reads. Up to 10,000 documents.
        """
        return self._single(
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

    def rescore(
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
        """Order hits of a search under the policy of its index, as the engine's plugin does.

        `hits` are in the engine's order: `{"id", "score", "fields": {name: text or texts}}`, or `"text"` in place of
        `fields`. What is given here is in place of the policy's. Verdicts are shared with all other doors. Pages
        after the first (`offset` > 0), and searches that name a `ranking`, keep the order that was given before.
        """
        return self._single(
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

    def ranking(self, ranking_id: str) -> RankingAnswer:
        """A ranking with every verdict that has landed since. Raises MissingError when it is unknown or expired."""
        return self._single(calls.ranking(ranking_id))

    def events(self, ranking_id: str) -> Iterator[Event]:
        """Verdicts of a ranking as they land, those already there first; then its final order.

        Connections that break are opened anew where they were. Raises MissingError when the ranking is unknown.
        """
        from httpx_sse import EventSource  # noqa: PLC0415 - only who follows events loads their reader

        from whyrank.client.stream import SILENCE_S, Follower  # noqa: PLC0415

        follower = Follower(ranking_id)
        timeout = httpx.Timeout(SILENCE_S, connect=self._to.timeout_s)
        while not follower.done():
            try:
                with (
                    mapped(self._to.url),
                    self._http.stream(
                        "GET", f"{self._to.url}{follower.path}", headers=follower.headers, timeout=timeout
                    ) as answer,
                ):
                    if answer.status_code != 200:
                        answer.read()
                    if follower.begun(answer):
                        for sent in EventSource(answer).iter_sse():
                            event = follower.take(sent)
                            if event is not None:
                                yield event
                            if follower.done():
                                break
            except (UnreachableError, FailedError) as error:
                time.sleep(follower.pause_s(error))

    def health(self) -> Health:
        """Whether the sidecar's process answers."""
        return self._single(calls.health())

    def ready(self) -> Readiness:
        """How the sidecar and its parts fare; an answer also while the engine is down."""
        return self._single(calls.ready())

    def policies(self) -> dict[str, Policy]:
        """The policies as this sidecar knows them, by index; a change is there within a second or two."""
        return self._single(policies.known())

    def policy(self, index: str) -> Policy | None:
        """The policy of an index as last written, seen by sidecars or not yet; None when it has none."""
        return self._run(policies.get(index, self._to.timeout_s))

    def put_policy(self, policy: Policy) -> None:
        """Write or replace the policy of `policy.index`. Raises BadRequestError naming a field out of bounds."""
        self._run(policies.put(policy, self._to.timeout_s))

    def enable(self, index: str, **changes: Unpack[PolicyChanges]) -> Policy:
        """Rescore searches of this index, with these fields of its Policy; the others stay as they are.

        An index without a policy needs `fields`. Gives the policy as it is now.
        """
        return self._run(policies.enable(index, changes, self._to.timeout_s))

    def disable(self, index: str) -> bool:
        """Stop rescoring this index; its policy is kept, switched off. False when there is none."""
        return self._run(policies.disable(index, self._to.timeout_s))

    def delete_policy(self, index: str) -> bool:
        """Forget the policy of this index; False when there was none."""
        return self._run(policies.delete(index, self._to.timeout_s))

    def close(self) -> None:
        """Release the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close()

    def _single(self, call: Call[T]) -> T:
        return self._run(single(call, self._to.timeout_s))

    def _run(self, flow: Flow[T]) -> T:
        answer: httpx.Response | None = None
        try:
            while True:
                step = flow.send(answer)
                answer = None
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                else:
                    answer = self._send(step.call)
        except StopIteration as done:
            result: T = done.value
            return result

    def _send(self, call: Call[Any]) -> httpx.Response:
        with mapped(self._to.url):
            return self._http.request(**self._to.request(call))
