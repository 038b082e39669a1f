"""WhyRank's shared kernel: what the sidecar, ingest and training have in common."""

__version__ = "0.1.0"
