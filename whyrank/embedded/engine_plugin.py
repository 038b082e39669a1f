"""Our plugin in the engine of `whyrank up`: its Java sources, compiled once on this machine, as one jar.

A user's machine has neither Maven nor a Java compiler; a production cluster gets the zip that Maven builds of the same
sources (engine_plugin/). Here the engine's launcher loads the plugin from the class path, by the name of its class.
"""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

from whyrank.embedded import jars
from whyrank.embedded.cache import Cache, digest
from whyrank.errors import WhyRankError

CLASS = "org.whyrank.opensearch.WhyRankPlugin"
JAR = "whyrank-plugin.jar"
_PACKAGED = Path(__file__).parent / "plugin-java"
"""Where a wheel has the sources."""
_CHECKED_OUT = Path(__file__).parents[2] / "engine_plugin" / "src" / "main" / "java"
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can say: the same classes make the same jar."""


class PluginError(WhyRankError):
    """The plugin cannot be built here; the message says why."""


def sources() -> Path:
    """The folder of the plugin's sources. Raises PluginError where this installation has none."""
    for folder in (_PACKAGED, _CHECKED_OUT):
        if folder.is_dir():
            return folder
    raise PluginError("this installation of WhyRank has no sources of the OpenSearch plugin")


def jar(installed: Path, cache: Cache) -> Path:
    """The plugin as a jar, compiled against the engine's jars in `installed`. Quick when it has been built before.

    A jar, not a folder of classes: Java does not use its class archive where the class path has a folder.
    Raises PluginError and DownloadError.
    """
    try:
        classes = jars.compile_java(sources(), installed, jars.COMPILER, cache)
    except subprocess.CalledProcessError as error:
        raise PluginError(f"the OpenSearch plugin does not compile:\n{error.stdout}{error.stderr}") from error

    def build(folder: Path) -> None:
        with zipfile.ZipFile(folder / JAR, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(classes.rglob("*.class")):
                entry = zipfile.ZipInfo(path.relative_to(classes).as_posix(), _EPOCH)
                archive.writestr(entry, path.read_bytes())

    return cache.folder("plugin", digest(str(classes)), build) / JAR
