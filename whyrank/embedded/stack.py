"""The whole of WhyRank as parts for the supervisor: which processes, where, and with what settings."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from whyrank.embedded import bi_encoder, engine, model_host, model_server, valkey
from whyrank.embedded import state as states
from whyrank.embedded.cache import Cache, Progress
from whyrank.embedded.parts import Part, answers, environment, free_port
from whyrank.embedded.process import Launch
from whyrank.embedded.state import ENGINE, MODEL, SIDECAR, VALKEY, WORKER, State
from whyrank.embedded.supervisor import Supervisor, supervise
from whyrank.settings import Settings

PORTS = {SIDECAR: (8080, 8179), MODEL: (8000, 8079), VALKEY: (6380, 6479), WORKER: (9808, 9907), ENGINE: engine.PORTS}


@dataclass(frozen=True)
class Stack:
    """The parts, and where they are found."""

    parts: list[Part]
    urls: dict[str, str]


def build(home: Path, *, with_model: bool, sidecar_port: int, cache: Cache) -> Stack:
    """Choose free ports, those of the last time where they are still free, and lay out the parts.

    Without `with_model` the model server is the one that the environment's WHYRANK_MODEL_URL names.
    """
    ports = choose_ports(home, sidecar_port)
    sidecar = f"http://127.0.0.1:{ports[SIDECAR]}"
    urls = {
        ENGINE: engine.url(ports[ENGINE]),
        VALKEY: valkey.url(ports[VALKEY]),
        SIDECAR: sidecar,
        WORKER: f"http://127.0.0.1:{ports[WORKER]}/metrics",
        "page": f"{sidecar}/_whyrank/",
    }
    values: dict[str, object] = {
        "home": home,
        "engine_url": urls[ENGINE],
        "engine_kind": "opensearch",
        "redis_url": urls[VALKEY],
        "host": "127.0.0.1",
        "port": ports[SIDECAR],
        "worker_metrics_port": ports[WORKER],
        "secret": secret(home),
        "bi_encoder": Settings().bi_encoder or bi_encoder.folder(cache),
    }
    if with_model:
        urls[MODEL] = model_server.url(ports[MODEL])
        values |= {
            "model_url": urls[MODEL],
            "model_name": model_server.SERVED_NAME,
            "model_manifest": model_host.write_first_manifest(home, model_server.registry(home)),
            "shadow_manifest": model_host.shadow_path(home),
        }
    ours = environment(values)

    def sidecar_launch(_progress: Progress) -> Launch:
        return Launch([sys.executable, "-m", "plugin_service"], ours)

    def worker_launch(_progress: Progress) -> Launch:
        return Launch([sys.executable, "-m", "plugin_service.workers"], ours)

    parts = [
        engine.part(home / "engine", ports[ENGINE], cache),
        valkey.part(home / "valkey", ports[VALKEY]),
        # The worker needs no engine, but no search waits for it either: the engine has the processors first.
        Part(WORKER, ports[WORKER], worker_launch, answers(urls[WORKER]), after=(VALKEY, ENGINE), stop_grace_s=5.0),
        Part(SIDECAR, ports[SIDECAR], sidecar_launch, answers(f"{sidecar}/_whyrank/health"), after=(VALKEY,)),
    ]
    if with_model:
        # Searches are answered without the model, so what answers them gets the processor first.
        parts.append(replace(model_host.part(home, ports[MODEL], cache), after=(ENGINE, SIDECAR)))
    return Stack(parts, urls)


def choose_ports(home: Path, sidecar_port: int) -> dict[str, int]:
    """A free port for each part. Raises PartError when a whole range is taken."""
    before = states.last(home)
    known = {name: part.port for name, part in before.parts.items()} if before else {}
    known.setdefault(SIDECAR, sidecar_port)
    return {name: free_port(*span, preferred=known.get(name)) for name, span in PORTS.items()}


def secret(home: Path) -> str:
    """What signs ranking ids, made once for this home and readable by its owner alone."""
    path = home / "secret"
    if not path.exists():
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_urlsafe(32))
        fresh.replace(path)
    return path.read_text()


def up(home: Path, *, with_model: bool, sidecar_port: int, on_start: Callable[[Supervisor], None]) -> None:
    """Run the stack in this process until SIGINT or SIGTERM. Raises AlreadyRunningError."""
    with states.holding(home):
        cache = Cache()
        stack = build(home, with_model=with_model, sidecar_port=sidecar_port, cache=cache)
        if Settings().bi_encoder is None:
            bi_encoder.install_beside(cache, home / "logs" / "bi-encoder.log")
        asyncio.run(supervise(home, stack.parts, stack.urls, on_start))


def up_detached(home: Path, *, with_model: bool, sidecar_port: int) -> subprocess.Popen[bytes]:
    """Run the stack in a process of its own, which outlives this one; `whyrank down` stops it."""
    log = home / "logs" / "supervisor.log"
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = [sys.executable, "-m", "whyrank.cli", "up", "--home", str(home), "--port", str(sidecar_port), "--quiet"]
    with log.open("ab") as output:
        return subprocess.Popen(
            [*command, *([] if with_model else ["--no-model"])],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def down(home: Path, patience_s: float = 40.0) -> State:
    """Stop the stack of this home, and wait until nothing of it is left. Raises NotRunningError.

    A supervisor that does not stop in time is killed; its watchdog then ends the parts.
    """
    state = states.running(home)
    if state is None:
        raise states.NotRunningError(f"nothing is up in {home}")
    states.stop_supervisor(home, state, patience_s)
    return state
