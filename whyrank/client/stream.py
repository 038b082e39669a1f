"""Following a ranking's events over broken connections, without I/O."""

from __future__ import annotations

import httpx
import msgspec
from httpx_sse import ServerSentEvent

from whyrank.client.calls import ranking_path
from whyrank.client.errors import ClientError, FailedError, ProtocolError
from whyrank.client.exchange import error_of
from whyrank.client.results import Event, OrderEvent, RankedDocument, RankingAnswer, VerdictEvent

SILENCE_S = 60.0
"""A sidecar sends a sign of life every 15 seconds; one that is silent for this long is gone."""
_BREAKS = 3
"""Connections that may break in a row without a new event."""
_PAUSE_S = 1.0


class Follower:
    """One reader of one ranking's events: where it stands, and whether to go on after a break.

    Every event has an id by which any sidecar resumes the stream, so none is lost or repeated.
    """

    def __init__(self, ranking_id: str) -> None:
        self.path = ranking_path(ranking_id) + "/events"
        self._ended = False
        self._last_id = ""
        self._breaks = 0

    @property
    def headers(self) -> dict[str, str]:
        """Of the request that goes on where the last one broke."""
        resumed = {"Last-Event-ID": self._last_id} if self._last_id else {}
        return {"Accept": "text/event-stream", "Cache-Control": "no-store", **resumed}

    def done(self) -> bool:
        """Whether everything was sent."""
        return self._ended

    def begun(self, answer: httpx.Response) -> bool:
        """Whether events follow; `answer` is read already unless its status is 200. Raises ClientError."""
        if answer.status_code == 204:
            self._ended = True
            return False
        if answer.status_code != 200:
            raise error_of(answer)
        kind = answer.headers.get("content-type", "").partition(";")[0]
        if kind != "text/event-stream":
            raise ProtocolError(f"{self.path} was answered by {kind or 'something'}, not by events")
        return True

    def take(self, sent: ServerSentEvent) -> Event | None:
        """The event, None where it is not for the reader. Raises FailedError where the stream says that it broke."""
        if sent.id:
            self._last_id = sent.id
        if sent.event == "end":
            self._ended = True
            return None
        if sent.event == "fault":
            raise FailedError(f"the stream broke: {sent.data[:500]}", status_code=500)
        event = _read(sent)
        if event is not None:
            self._breaks = 0
        return event

    def pause_s(self, error: ClientError) -> float:
        """How long to wait before going on after this; raises it when there is no use in that."""
        self._breaks += 1
        if self._breaks > _BREAKS:
            raise error
        return _PAUSE_S


def _read(sent: ServerSentEvent) -> Event | None:
    try:
        if sent.event == "verdict":
            return VerdictEvent(msgspec.json.decode(sent.data, type=RankedDocument))
        if sent.event == "order":
            return OrderEvent(msgspec.json.decode(sent.data, type=RankingAnswer))
    except msgspec.DecodeError as error:
        raise ProtocolError(f"an event is not one of a sidecar's: {error}") from error
    return None
