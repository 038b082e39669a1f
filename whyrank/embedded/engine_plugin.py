"""Our plugin in the engine of `whyrank up`: its Java sources, compiled once on this machine.

A user's machine has neither Maven nor a Java compiler; a production cluster gets the zip that Maven builds of the same
sources (engine_plugin/). Here the engine's launcher loads the plugin from the class path, by the name of its class.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from whyrank.embedded import jars
from whyrank.embedded.cache import Cache
from whyrank.errors import WhyRankError

CLASS = "org.whyrank.opensearch.WhyRankPlugin"
_PACKAGED = Path(__file__).parent / "plugin-java"
"""Where a wheel has the sources."""
_CHECKED_OUT = Path(__file__).parents[2] / "engine_plugin" / "src" / "main" / "java"


class PluginError(WhyRankError):
    """The plugin cannot be built here; the message says why."""


def sources() -> Path:
    """The folder of the plugin's sources. Raises PluginError where this installation has none."""
    for folder in (_PACKAGED, _CHECKED_OUT):
        if folder.is_dir():
            return folder
    raise PluginError("this installation of WhyRank has no sources of the OpenSearch plugin")


def classes(installed: Path, cache: Cache) -> Path:
    """The folder of the plugin's classes, compiled against the engine's jars in `installed` unless they are there.

    Raises PluginError and DownloadError.
    """
    try:
        return jars.compile_java(sources(), installed, jars.COMPILER, cache)
    except subprocess.CalledProcessError as error:
        raise PluginError(f"the OpenSearch plugin does not compile:\n{error.stdout}{error.stderr}") from error
