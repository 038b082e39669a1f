"""What Prometheus can read of a sidecar. docs/metrics.md lists every name; a test compares the two."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, Summary

from plugin_service.rescoring.ports import ModelInfo, Outcome
from plugin_service.rescoring.shadow import RankChange
from whyrank.types import Verdict

_CODE = re.compile(r"[a-z][a-z0-9_]{0,39}")
_MOST_REASONS = 64
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds: from a cached search to the longest deadline, finer about the default deadlines (0.3 and 1.5)."""


class Metrics:
    """The figures of one sidecar, in a registry of its own. Implements the Rescorer's `Observer`.

    No label takes a value from a request: the number of time series is bounded by the code.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._reasons: set[str] = set()
        self._searches = Counter(
            "whyrank_searches", "Searches answered.", ["door", "status", "reason"], registry=registry
        )
        self._stages = Histogram(
            "whyrank_stage_seconds", "Time of each stage of a search.", ["stage"], registry=registry, buckets=_BUCKETS
        )
        self._lookups = Counter(
            "whyrank_verdict_lookups", "Verdicts asked of the cache.", ["result"], registry=registry
        )
        self._outcomes = Counter(
            "whyrank_outcomes", "Outcomes announced by workers over the whole fleet.", ["outcome"], registry=registry
        )
        self._queued = Gauge("whyrank_queue_pairs", "Pairs waiting to be judged.", ["queue"], registry=registry)
        self._streams = Gauge("whyrank_event_streams", "Rankings being followed right now.", registry=registry)
        self._policies = Gauge("whyrank_policies", "Policies this sidecar knows.", registry=registry)
        self._ready = Gauge("whyrank_model_ready", "Whether the model server is ready.", registry=registry)
        self._model = Gauge("whyrank_model_info", "The served model; always 1.", ["revision"], registry=registry)
        self._shadow = Counter(
            "whyrank_shadow_searches",
            "Searches that the shadow was to judge, too: same or changed first ten, or unjudged.",
            ["revision", "result"],
            registry=registry,
        )
        self._tau = Summary(
            "whyrank_shadow_kendall_tau",
            "Kendall's tau of the shadow's order and ours.",
            ["revision"],
            registry=registry,
        )
        build = Gauge("whyrank_build_info", "The running version; always 1.", ["version"], registry=registry)
        build.labels(version("whyrank")).set(1)
        for result in ("hit", "miss"):
            self._lookups.labels(result)
        ProcessCollector(registry=registry)

    def search(self, door: str, status: str, reason: str) -> None:
        """One search was answered; of `reason`, the code before the colon counts."""
        self._searches.labels(door, status, self._reason(reason)).inc()

    def stage(self, name: str, seconds: float) -> None:
        """One stage of a search took this long."""
        self._stages.labels(name).observe(seconds)

    def cache(self, hits: int, misses: int) -> None:
        """So many verdicts were in the cache, so many were not."""
        self._lookups.labels("hit").inc(hits)
        self._lookups.labels("miss").inc(misses)

    def outcome(self, outcome: Outcome) -> None:
        """A worker announced a verdict, or the failure of a pair."""
        self._outcomes.labels("verdict" if isinstance(outcome, Verdict) else outcome.kind.value).inc()

    def stream(self, change: int) -> None:
        """A ranking begins (+1) or ceases (-1) to be followed."""
        self._streams.inc(change)

    def queues(self, depths: Mapping[str, int] | None) -> None:
        """Pairs waiting by queue; None when they cannot be known, and then there is no figure at all."""
        self._queued.clear()
        for queue, depth in (depths or {}).items():
            self._queued.labels(queue).set(depth)

    def policies(self, count: int) -> None:
        """How many policies this sidecar knows."""
        self._policies.set(count)

    def model(self, info: ModelInfo) -> None:
        """What is known of the model server."""
        self._ready.set(info.ready)
        self._model.clear()
        self._model.labels(info.revision).set(1)

    def shadow(self, revision: str, change: RankChange | None) -> None:
        """The shadow's order of one search beside the one that was answered; None: not all was judged."""
        result = "unjudged" if change is None else "changed" if change.top_changed else "same"
        self._shadow.labels(revision, result).inc()
        if change is not None:
            self._tau.labels(revision).observe(change.tau)

    def _reason(self, reason: str) -> str:
        code = reason.partition(":")[0].strip()
        known = code in self._reasons
        if not known and (len(self._reasons) >= _MOST_REASONS or not _CODE.fullmatch(code)):
            return "other"
        self._reasons.add(code)
        return code
