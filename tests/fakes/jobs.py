"""Fake of the port JobQueue."""

from __future__ import annotations

from plugin_service.rescoring.ports import Admission, JobRequest
from whyrank.errors import StoreUnavailableError
from whyrank.types import Pair, Priority


class FakeJobQueue:
    """Keeps what was enqueued, pair by pair, in `queues`; `requests` are all that were submitted.

    `leases` says at which priority a pair is in flight: an interactive request takes over a background
    lease. `full` sheds, `down` fails. `finish` is what a worker does at the end.
    """

    def __init__(self) -> None:
        self.requests: list[JobRequest] = []
        self.queues: dict[Priority, list[Pair]] = {priority: [] for priority in Priority}
        self.leases: dict[str, Priority] = {}
        self.full = False
        self.down = False

    async def submit(self, request: JobRequest) -> Admission:
        if self.down:
            raise StoreUnavailableError("fake: down")
        self.requests.append(request)
        pairs = {pair.key: pair for pair in request.pairs if self._free(pair.key, request.priority)}
        if not pairs:
            return Admission.ACCEPTED
        if self.full:
            return Admission.SHED
        self.leases.update(dict.fromkeys(pairs, request.priority))
        self.queues[request.priority].extend(pairs.values())
        return Admission.ACCEPTED

    def finish(self, key: str) -> None:
        """Drop the pair's lease."""
        self.leases.pop(key, None)

    def _free(self, key: str, priority: Priority) -> bool:
        held = self.leases.get(key)
        return held is None or (held is Priority.BACKGROUND and priority is Priority.INTERACTIVE)
