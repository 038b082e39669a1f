"""What an engine holds: by its own statistics, and by the operating system's account of its process."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields

import httpx
import psutil

MB = 1_000_000


@dataclass(frozen=True)
class Footprint:
    """An engine at one moment."""

    threads: int
    open_files: int
    sidecar_connections: int
    """To the sidecar's port, in whatever state."""
    half_closed: int
    """Of these, the ones that the sidecar has closed and the engine has not."""
    http_clients: int
    request_breaker_bytes: int
    in_flight_bytes: int
    searches_queued: int
    heap_old_mb: int
    heap_used_mb: int


def footprint(engine_url: str, pid: int, sidecar_port: int) -> Footprint:
    """Of the one node at this address, which is the process `pid`."""
    answer = httpx.get(f"{engine_url}/_nodes/stats/jvm,breaker,http,thread_pool").raise_for_status()
    (node,) = answer.json()["nodes"].values()
    process = psutil.Process(pid)
    to_sidecar = [each for each in process.net_connections("tcp") if each.raddr and each.raddr.port == sidecar_port]
    states = Counter(each.status for each in to_sidecar)
    memory = node["jvm"]["mem"]
    return Footprint(
        threads=process.num_threads(),
        open_files=process.num_fds(),
        sidecar_connections=len(to_sidecar),
        half_closed=states[psutil.CONN_CLOSE_WAIT],
        http_clients=node["http"]["current_open"],
        request_breaker_bytes=node["breakers"]["request"]["estimated_size_in_bytes"],
        in_flight_bytes=node["breakers"]["in_flight_requests"]["estimated_size_in_bytes"],
        searches_queued=node["thread_pool"]["search"]["queue"],
        heap_old_mb=memory["pools"]["old"]["used_in_bytes"] // MB,
        heap_used_mb=memory["heap_used_in_bytes"] // MB,
    )


def leaks(before: Footprint, after: Footprint) -> str:
    """Both, side by side, in Markdown."""
    lines = ["| the engine holds | before | after |", "| --- | --- | --- |"]
    for each in fields(Footprint):
        lines.append(f"| {each.name.replace('_', ' ')} | {getattr(before, each.name)} | {getattr(after, each.name)} |")
    return "\n".join(lines)
