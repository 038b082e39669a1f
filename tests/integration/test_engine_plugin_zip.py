"""The zip that Maven builds, installed in an OpenSearch that enforces security policies. `make plugin` builds it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests import installed_opensearch
from tests.integration.engine_plugin_rig import QUERY, WINDOW, ids, rescored_engine, said
from whyrank.embedded import engine_plugin

ZIP = Path(__file__).parents[2] / "engine_plugin" / "target" / "whyrank.zip"


@pytest.fixture(scope="module")
def plugin() -> Path:
    if not ZIP.exists():
        pytest.skip("no zip: `make plugin` builds it, where there is Maven")
    newest = max(path.stat().st_mtime for path in engine_plugin.sources().rglob("*.java"))
    if ZIP.stat().st_mtime < newest:
        pytest.skip("the zip is older than its sources: `make plugin` builds it")
    return ZIP


def test_the_zip_holds_our_jar_and_what_the_engine_asks_of_a_plugin(plugin: Path) -> None:
    with zipfile.ZipFile(plugin) as archive:
        names = archive.namelist()
        descriptor = archive.read("plugin-descriptor.properties").decode()
    assert sorted(names)[:2] == ["plugin-descriptor.properties", "plugin-security.policy"]
    (jar,) = sorted(names)[2:]
    assert jar.startswith("whyrank-")
    said_of_it = dict(line.split("=", 1) for line in descriptor.splitlines() if "=" in line)
    assert (said_of_it["name"], said_of_it["classname"]) == ("whyrank", engine_plugin.CLASS)
    assert "${" not in descriptor, "Maven has filled in the versions"


def test_it_rescores_where_it_is_installed(plugin: Path, tmp_path: Path) -> None:
    with installed_opensearch.start(tmp_path, plugin) as url, rescored_engine(url) as rig:
        assert rig.call("GET", "/_cat/plugins?h=component").text.split() == ["whyrank"]
        found = rig.search({"query": QUERY, "size": 3})
        assert ids(found) == [str(WINDOW - 1 - place) for place in range(3)]
        assert said(found)["status"] == "complete"


def test_its_policy_is_what_lets_it_connect(plugin: Path, tmp_path: Path) -> None:
    with installed_opensearch.start(tmp_path, plugin, policy="grant { };") as url, rescored_engine(url) as rig:
        found = rig.search({"query": QUERY, "size": 3})
        assert ids(found) == ["0", "1", "2"], "no search fails for that, either"
        policy = "the engine's security policy does not let this plugin connect"
        assert said(found)["reason"] == f"sidecar_unreachable: {policy}"
