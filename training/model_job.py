"""Jobs of the model environment: what needs torch runs as a process of its own, by that environment's Python.

The stage writes `job.json` into its folder and starts `python -m MODULE job.json`; the job prints one JSON object a
line on stdout (`{"what": ..., "share": ...}`), writes its figures to `figures.json`, and ends with exit code 0, or
with 3 after `{"error": ...}`. Everything else that it or its libraries say goes to `job.log`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from training.stages import Progress, StageError
from whyrank.embedded.cache import Cache
from whyrank.embedded.parts import tail
from whyrank.errors import WhyRankError
from whyrank.settings import Settings

REPOSITORY = Path(__file__).resolve().parent.parent
EMBEDDED = "embedded"
"""In a recipe: the base model is the one of this machine."""

J = TypeVar("J", bound=msgspec.Struct)


class Line(msgspec.Struct, omit_defaults=True):
    """What a job says."""

    what: str = ""
    share: float | None = None
    error: str = ""


def base_model(name: str, settings: Settings, progress: Progress) -> str:
    """Folder or name of a recipe's base model."""
    from whyrank.embedded import model_server  # noqa: PLC0415  jobs import this module where its packages are not

    return str(model_server.install_model(Cache(settings.cache), progress)) if name == EMBEDDED else name


def run_job(
    module: str, job: Mapping[str, Any], folder: Path, settings: Settings, progress: Progress
) -> dict[str, Any]:
    """Run a job to its end and give its figures. Raises StageError with what it said last.

    `job["base"]` is resolved to a folder here, and `job["folder"]` is set. When this process is interrupted, the job
    is ended too.
    """
    from whyrank.embedded import model_server  # noqa: PLC0415

    python = model_server.install_environment(Cache(settings.cache), progress) / "bin" / "python"
    job = {**job, "folder": folder, "base": base_model(job["base"], settings, progress)}
    path = folder / "job.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(job, enc_hook=str), indent=2))
    (folder / "figures.json").unlink(missing_ok=True)
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "1")}
    variables |= {"TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
    error = ""
    log = folder / "job.log"
    with (
        log.open("ab") as output,
        subprocess.Popen(  # noqa: S603 - our own module, by our own environment
            [str(python), "-m", module, str(path)],
            stdin=subprocess.PIPE,  # held open: its end tells the job that this process is gone
            stdout=subprocess.PIPE,
            stderr=output,
            env=variables,
        ) as process,
    ):
        try:
            for raw in process.stdout or ():
                try:
                    line = msgspec.json.decode(raw, type=Line)
                except msgspec.DecodeError:
                    output.write(raw)  # a library that prints
                    continue
                error = line.error or error
                if line.what:
                    progress(line.what, line.share)
            code = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if code != 0:
        raise StageError(error or f"{module} ended with {code}:\n{tail(log)}")
    figures: dict[str, Any] = msgspec.json.decode((folder / "figures.json").read_bytes())
    return figures


def tell(what: str, share: float | None) -> None:
    """A job's Progress: a line on stdout."""
    sys.stdout.write(msgspec.json.encode(Line(what, share)).decode() + "\n")
    sys.stdout.flush()


def job_main(kind: type[J], work: Callable[[J], dict[str, Any]]) -> None:
    """The main of a job's module. Exits with 0, with 3 for an error of ours, else as Python does."""
    path = Path(sys.argv[1])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    job = msgspec.json.decode(path.read_bytes(), type=kind, dec_hook=_path)
    try:
        figures = work(job)
    except WhyRankError as error:
        sys.stdout.write(msgspec.json.encode(Line(error=str(error))).decode() + "\n")
        sys.exit(3)
    if os.environ.get("RANK", "0") == "0":  # of several under accelerate, one reports
        draft = path.with_name("figures.draft")
        draft.write_bytes(msgspec.json.encode(figures))
        draft.replace(path.with_name("figures.json"))


def _end_with_parent() -> None:
    """A job whose stage was killed must not go on beside the next attempt. Started by hand, it reads a terminal."""
    if not sys.stdin.isatty():
        while os.read(sys.stdin.fileno(), 1024):  # not sys.stdin: its lock, held at the end, is fatal
            pass
        os._exit(4)


def _path(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError
