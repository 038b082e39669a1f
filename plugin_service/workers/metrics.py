"""What a worker counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class WorkerMetrics:
    """Counters of one worker process, in a registry of their own or the one given."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.pairs = Counter(
            "whyrank_worker_pairs",
            "Pairs by mode and what became of them: judged, a failure's kind, demoted, skipped, obsolete, error.",
            ["mode", "outcome"],
            registry=self.registry,
        )
        self.jobs = Counter(
            "whyrank_worker_jobs",
            "Jobs by queue and result: done, demoted, given_back, obsolete, error.",
            ["priority", "result"],
            registry=self.registry,
        )
        self.model_seconds = Histogram(
            "whyrank_worker_model_seconds",
            "Time of one answer of the model server.",
            ["mode"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.queue_seconds = Histogram(
            "whyrank_worker_queue_seconds",
            "Time from the search to the start of its job.",
            ["priority"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge("whyrank_worker_in_flight", "Requests at the model server now.", registry=self.registry)
        self.retries = Counter(
            "whyrank_worker_retries",
            "Attempts that are made again, by what was away: model, store.",
            ["part"],
            registry=self.registry,
        )
        self.similarities = Counter(
            "whyrank_worker_similarities",
            "Pairs by what the bi-encoder gave them: known, or why not: absent, other, broken, failed, late.",
            ["result"],
            registry=self.registry,
        )
