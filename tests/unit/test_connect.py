"""`whyrank connect`: what is printed, what is sent, what is taken back, and what is refused."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.fakes.admin import AdminEngine
from whyrank.cli import app
from whyrank.connect import printing
from whyrank.connect.applying import apply
from whyrank.connect.assumed import assumed_survey
from whyrank.connect.doors import DOORS, best, ml_commons, plugin
from whyrank.connect.steps import Door
from whyrank.connect.survey import survey
from whyrank.connect.wish import Wish
from whyrank.engines import EngineAnswer, EngineKind
from whyrank.engines.policies import PolicyStore
from whyrank.types import Mode, Policy

ROOT = Path(__file__).parents[2]
KEY = 's3cr"et $key'
PIPELINE = "index.search.default_pipeline"
SIDECAR = ("--sidecar-url", "http://whyrank:8080")
ML = ("opensearch", "--door", "ml-commons", "--fields", "title,body", *SIDECAR)
PLUGIN = ("opensearch", "--door", "plugin", "--index", "docs", "--fields", "title,body", *SIDECAR)
CUSTOM = ("elasticsearch", "--door", "custom", *SIDECAR)
Connect = Callable[..., Result]


def opensearch() -> AdminEngine:
    engine = AdminEngine()
    engine.plugins = ["opensearch-ml", "opensearch-neural-search"]
    engine.processors = ["truncate_hits", "rerank", "whyrank"]
    engine.index_settings = {"docs": {}}
    engine.node_settings = {"whyrank.allowed_urls": ["http://127.0.0.1:*", "http://whyrank:8080"]}
    engine.defaults = {ml_commons.TRUSTED: ["^https://api\\.cohere\\.ai/.*$"], ml_commons.PRIVATE: "false"}
    return engine


def elasticsearch() -> AdminEngine:
    engine = AdminEngine(EngineKind.ELASTICSEARCH, "9.5.3")
    engine.licence = "trial"
    return engine


@pytest.fixture
def connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Runs the command against an engine; a column is as wide as its words."""
    monkeypatch.setattr("whyrank.console.out.width", 400)
    monkeypatch.setattr("whyrank.console.err.width", 400)

    def run(engine: AdminEngine, *arguments: str, env: dict[str, str] | None = None) -> Result:
        async def opened(_: object) -> AdminEngine:
            return engine

        monkeypatch.setattr("whyrank.connect.cli.connect", opened)
        here = ("--home", str(tmp_path), "--engine-url", "http://ada:pw@127.0.0.1:9200")
        return CliRunner().invoke(app, ["connect", *arguments, *here], env={"WHYRANK_KEY": KEY, **(env or {})})

    return run


def test_the_ml_commons_requests_are_the_documented_ones(connect: Connect) -> None:
    told = connect(opensearch(), *ML, "--json")
    assert told.exit_code == 0, told.output
    steps = json.loads(told.stdout)["steps"]
    assert [(step["request"]["method"], step["request"]["path"]) for step in steps] == [
        ("PUT", "/_cluster/settings"),
        ("POST", "/_plugins/_ml/connectors/_create"),
        ("POST", "/_plugins/_ml/models/_register?deploy=true"),
        ("PUT", "/_search/pipeline/whyrank"),
    ]
    settings, connector, model, pipeline = (step["request"]["body"] for step in steps)
    assert settings == {
        "persistent": {
            "plugins.ml_commons.trusted_connector_endpoints_regex": [
                "^https://api\\.cohere\\.ai/.*$",
                "^http://whyrank:8080/.*$",
            ],
            "plugins.ml_commons.connector.private_ip_enabled": True,
        }
    }
    assert connector == {
        "name": "whyrank",
        "description": "WhyRank: explainable reranking",
        "version": 1,
        "protocol": "http",
        "credential": {"key": {"$secret": "WHYRANK_KEY"}},
        "parameters": {"model": "whyrank"},
        "client_config": {"max_connection": 30, "connection_timeout": 1, "read_timeout": 2, "max_retry_times": 0},
        "actions": [
            {
                "action_type": "predict",
                "method": "POST",
                "url": "http://whyrank:8080/v2/rerank",
                "headers": {"Authorization": "Bearer ${credential.key}"},
                "request_body": '{"documents":${parameters.documents},"query":"${parameters.query}",'
                '"model":"${parameters.model}","top_n":${parameters.top_n}}',
                "pre_process_function": "connector.pre_process.cohere.rerank",
                "post_process_function": "connector.post_process.cohere.rerank",
            }
        ],
    }
    assert model == {"name": "whyrank", "function_name": "remote", "connector_id": {"$given": "connector_id"}}
    rerank = {
        "ignore_failure": True,
        "ml_opensearch": {"model_id": {"$given": "model_id"}},
        "context": {"document_fields": ["title", "body"]},
    }
    assert pipeline == {
        "request_processors": [{"oversample": {"sample_factor": 5.0}}],
        "response_processors": [{"rerank": rerank}, {"truncate_hits": {}}],
    }


def test_the_ml_commons_requests_with_explanations_are_the_manuals(connect: Connect) -> None:
    page = (ROOT / "docs" / "api" / "callers.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"<!-- (\w+) -->\n```json\n(.*?)```", page, re.DOTALL))
    explained = ("opensearch", "--door", "ml-commons", "--explanations", "--fields", "body", *SIDECAR)
    told = connect(opensearch(), *explained, "--json")
    assert told.exit_code == 0, told.output
    bodies = [step["request"]["body"] for step in json.loads(told.stdout)["steps"]]
    connector, pipeline = bodies[1], bodies[3]
    connector["credential"] = {"key": "..."}
    assert connector == json.loads(blocks["connector"])
    pipeline["response_processors"][0]["ml_inference"]["model_id"] = "..."
    assert pipeline == json.loads(blocks["pipeline"])
    engine = opensearch()
    assert connect(engine, *explained, "--apply").exit_code == 0
    assert list(engine.pipelines) == ["whyrank-explained"]
    assert connect(engine, *explained, "--undo").exit_code == 0
    assert (engine.pipelines, engine.models, engine.connectors) == ({}, {}, {})


def test_explanations_by_ml_commons_need_one_field_and_a_newer_engine(connect: Connect) -> None:
    two = connect(opensearch(), *ML, "--explanations")
    assert two.exit_code == 2
    assert "reads one field" in two.stderr
    engine = opensearch()
    engine.version = "2.17.1"
    one = connect(engine, "opensearch", "--door", "ml-commons", "--explanations", "--fields", "body", *SIDECAR)
    assert one.exit_code == 1
    assert "2.18" in one.stderr


def test_the_custom_service_is_the_documented_one_and_asks_for_no_top_n(connect: Connect) -> None:
    told = connect(elasticsearch(), *CUSTOM, "--json")
    assert told.exit_code == 0, told.output
    (step,) = json.loads(told.stdout)["steps"]
    assert (step["request"]["method"], step["request"]["path"]) == ("PUT", "/_inference/rerank/whyrank")
    settings = step["request"]["body"]["service_settings"]
    assert settings["request"].startswith('{"model":"whyrank","query":${query},"documents":${input},')
    assert settings["response"]["json_parser"] == {
        "relevance_score": "$.results[*].relevance_score",
        "reranked_index": "$.results[*].index",
    }
    assert settings["secret_parameters"] == {"api_key": {"$secret": "WHYRANK_KEY"}}
    example = json.loads(told.stdout)["example"]["body"]["retriever"]["text_similarity_reranker"]
    assert (example["inference_id"], example["allow_rerank_failures"]) == ("whyrank", True)


@pytest.mark.parametrize(
    ("deadline_ms", "read_timeout"), [("0", 1), ("999", 1), ("1000", 2), ("1500", 2), ("2000", 3), ("2500", 3)]
)
def test_the_connector_waits_longer_than_the_sidecars_deadline(
    connect: Connect, deadline_ms: str, read_timeout: int
) -> None:
    told = connect(opensearch(), *ML, "--json", env={"WHYRANK_RERANK_DEADLINE_MS": deadline_ms})
    body = json.loads(told.stdout)["steps"][1]["request"]["body"]
    assert body["client_config"]["read_timeout"] == read_timeout


def test_settings_that_hold_already_are_left_alone(connect: Connect) -> None:
    engine = opensearch()
    engine.cluster["persistent"] = {ml_commons.TRUSTED: ["^http://whyrank:8080/.*$"], ml_commons.PRIVATE: "true"}
    told = connect(engine, *ML, "--json")
    assert "_cluster" not in told.stdout
    public = connect(engine, *ML[:-1], "https://8.8.8.8", "--json")
    (changed,) = [step["request"]["body"] for step in json.loads(public.stdout)["steps"] if "_cluster" in str(step)]
    assert list(changed["persistent"]) == [ml_commons.TRUSTED]
    assert changed["persistent"][ml_commons.TRUSTED][-1] == "^https://8\\.8\\.8\\.8/.*$"


def test_a_transient_setting_that_would_hide_ours_is_told(connect: Connect) -> None:
    engine = opensearch()
    engine.cluster["transient"] = {ml_commons.PRIVATE: "false"}
    told = connect(engine, *ML)
    assert told.exit_code == 1
    assert "set transiently" in told.stderr


CURL = """#!/bin/sh
# writes down its arguments, one a line, between marks, and answers as an engine would
{ printf '=== call\\n'; for one in "$@"; do printf '%s\\n' "$one"; done; } >> "$CALLS"
printf '{"task_id":"t","connector_id":"c-9","model_id" : "m-7"}\\n'
"""


@pytest.mark.parametrize("arguments", [ML, CUSTOM, PLUGIN], ids=["ml-commons", "custom", "plugin"])
def test_printed_commands_run_in_a_shell_and_send_what_apply_sends(
    connect: Connect, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    fresh = elasticsearch if "custom" in arguments else opensearch
    if arguments is not PLUGIN:
        assert "/INDEX/_search" in connect(fresh(), *arguments).stdout
        arguments = (*arguments, "--index", "docs")
    printed = connect(fresh(), *arguments)
    assert printed.exit_code == 0, printed.output
    curl = tmp_path / "curl"
    curl.write_text(CURL)
    curl.chmod(curl.stat().st_mode | stat.S_IXUSR)
    calls = tmp_path / "calls"
    key = "plain-key"  # as JSON, a key with a quote in it would have to be escaped by hand
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls), "WHYRANK_KEY": key}
    subprocess.run(["sh", "-c", printed.stdout], env=env, check=True, capture_output=True)
    typed = [_call(block.splitlines()) for block in calls.read_text().split("=== call\n")[1:]]
    engine = fresh()
    assert connect(engine, *arguments, "--apply", env={"WHYRANK_KEY": key}).exit_code == 0
    names = {"c1": "c-9", "m2": "m-7"}
    sent = [(method, path, _renamed(body, names)) for method, path, body in engine.sent]
    assert [(method, path.partition("?")[0], body) for method, path, body in typed][:-1] == sent
    assert typed[-1][1].split("/")[2].startswith("_search")


def _call(arguments: list[str]) -> tuple[str, str, Any]:
    method = arguments[arguments.index("-X") + 1]
    (url,) = [argument for argument in arguments if argument.startswith("http://")]
    assert url.startswith("http://127.0.0.1:9200/"), "the address has no credentials in it"
    body = json.loads(arguments[arguments.index("-d") + 1])
    return method, url.removeprefix("http://127.0.0.1:9200"), body


def _renamed(value: Any, names: dict[str, str]) -> Any:
    text = json.dumps(value)
    for old, new in names.items():
        text = text.replace(f'"{old}"', f'"{new}"')
    return json.loads(text)


def test_printed_commands_end_with_the_first_that_fails(connect: Connect, tmp_path: Path) -> None:
    printed = connect(opensearch(), *ML).stdout
    curl = tmp_path / "curl"
    calls = tmp_path / "calls"
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls), "WHYRANK_KEY": "k"}
    for answer, told, asked in (("exit 22", "", 1), ("echo '{}'", "CONNECTOR_ID: {}", 2)):
        curl.write_text(f"#!/bin/sh\necho call >> $CALLS\n{answer}\n")
        curl.chmod(curl.stat().st_mode | stat.S_IXUSR)
        calls.unlink(missing_ok=True)
        pasted = f"{printed}echo the shell goes on"
        ran = subprocess.run(["sh", "-c", pasted], env=env, check=True, capture_output=True, text=True)
        assert ran.stdout.endswith("the shell goes on\n")
        assert told in ran.stderr
        assert len(calls.read_text().splitlines()) == asked
    calls.unlink()
    subprocess.run(["sh", "-c", printed], env={**env, "WHYRANK_KEY": ""}, check=False, capture_output=True)
    assert not calls.exists(), "without the key nothing is sent"


async def test_an_apply_that_is_interrupted_takes_back_what_it_did() -> None:
    engine = opensearch()
    plan = await plugin.plan(engine, await survey(engine), Wish("http://whyrank:8080", "docs", fields=("title",)))
    request = engine.request

    async def interrupted(method: str, path: str, *rest: Any) -> EngineAnswer:
        if path.endswith("_settings") and method == "PUT" and engine.index_settings["docs"] == {}:
            answer = await request(method, path, *rest)
            assert answer.ok
            raise asyncio.CancelledError
        return await request(method, path, *rest)

    engine.request = interrupted  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await apply(engine, plan, "docs", {}, lambda *_: None)
    assert (engine.pipelines, engine.index_settings) == ({}, {"docs": {}})


def test_commands_take_the_engines_password_from_the_shell(connect: Connect) -> None:
    env = {"WHYRANK_ENGINE_USER": "ada", "WHYRANK_ENGINE_PASSWORD": "pässword", "WHYRANK_ENGINE_CA": "/my certs/ca.pem"}
    told = connect(opensearch(), *ML, env=env)
    assert '-u "$WHYRANK_ENGINE_USER:$WHYRANK_ENGINE_PASSWORD"' in told.stdout
    assert "--cacert '/my certs/ca.pem'" in told.stdout
    assert "pässword" not in told.output
    assert "pw" not in told.output


def test_dev_tools_requests_are_json_below_a_line(connect: Connect) -> None:
    told = connect(opensearch(), *ML, "--as", "dev-tools")
    blocks = re.split(r"\n(?=(?:PUT|POST|GET) )", told.stdout)[1:]
    heads = [block.partition("\n")[0] for block in blocks]
    assert heads[0] == "PUT _cluster/settings"
    bodies = [json.loads(re.split(r"\n(?=#|\n)", block.partition("\n")[2])[0]) for block in blocks]
    assert bodies[1]["credential"] == {"key": "<WHYRANK_KEY>"}
    assert bodies[2]["connector_id"] == "<CONNECTOR_ID>"
    assert "# then GET _plugins/_ml/models/<model_id> until it shows model_state: DEPLOYED" in told.stdout


@pytest.mark.parametrize("arguments", [ML, CUSTOM, PLUGIN], ids=["ml-commons", "custom", "plugin"])
def test_no_secret_is_printed_nor_kept(connect: Connect, arguments: tuple[str, ...]) -> None:
    engine = elasticsearch() if "custom" in arguments else opensearch()
    told = "".join(
        connect(engine, *arguments, *form).output
        for form in ([], ["--as", "dev-tools"], ["--json"], ["--apply"], ["--undo", "--json"])
    )
    assert KEY not in told
    assert json.dumps(KEY) not in told
    connect(engine, *arguments, "--apply")
    assert json.dumps(KEY)[1:-1] not in json.dumps(engine._indices[".whyrank"].documents)
    if arguments is not PLUGIN:
        assert KEY in str(engine.sent)


def test_a_key_that_is_not_there_is_asked_for_before_anything_is_sent(connect: Connect) -> None:
    engine = opensearch()
    told = connect(engine, *ML, "--apply", env={"WHYRANK_KEY": ""})
    assert told.exit_code == 2
    assert "WHYRANK_KEY is not set" in told.stderr
    assert engine.sent == []
    named = connect(engine, *ML, "--apply", "--key-variable", "OTHER", env={"OTHER": "x"})
    assert named.exit_code == 0, named.output


def test_ml_commons_is_applied_and_undone_without_a_trace(connect: Connect) -> None:
    engine = opensearch()
    told = connect(engine, *ML, "--apply")
    assert told.exit_code == 0, told.output
    assert told.stdout.count("done ") == 4
    assert engine.connectors["c1"]["actions"][0]["url"] == "http://whyrank:8080/v2/rerank"
    assert engine.pipelines["whyrank"]["response_processors"][0]["rerank"]["ml_opensearch"] == {"model_id": "m2"}
    again = connect(engine, *ML, "--apply")
    assert again.exit_code == 1
    assert "already: --undo that first" in again.stderr
    undone = connect(engine, *ML, "--undo")
    assert undone.exit_code == 0, undone.output
    assert (engine.connectors, engine.models, engine.pipelines, engine.cluster["persistent"]) == ({}, {}, {}, {})
    assert connect(engine, *ML, "--undo").exit_code == 1


@pytest.mark.parametrize("failing", range(4))
def test_a_step_that_fails_takes_the_others_back(connect: Connect, failing: int) -> None:
    engine = opensearch()
    engine.cluster["persistent"] = {ml_commons.TRUSTED: ["^https://other/.*$"]}
    paths = ["/_cluster/settings", "connectors/_create", "models/_register", "/_search/pipeline/"]
    bad = EngineAnswer(403, {"error": {"type": "security_exception", "reason": "no permissions"}})
    seen: list[str] = []

    def refuse(method: str, path: str) -> EngineAnswer | None:
        hit = method in ("PUT", "POST") and paths[failing] in path and paths[failing] not in seen
        seen.extend([paths[failing]] if hit else [])
        return bad if hit else None

    engine.refuse = refuse
    told = connect(engine, *ML, "--apply")
    assert told.exit_code == 1
    assert "no permissions" in told.stdout
    assert (engine.connectors, engine.models, engine.pipelines) == ({}, {}, {})
    assert engine.cluster["persistent"] == {ml_commons.TRUSTED: ["^https://other/.*$"]}
    assert told.stdout.count("undone ") >= min(failing, 1)


def test_what_cannot_be_taken_back_is_printed_to_be_done_by_hand(connect: Connect) -> None:
    engine = opensearch()
    bad = EngineAnswer(500, {"error": "disk full"})
    engine.refuse = lambda method, path: (
        bad if method == "DELETE" or (method, path[:9]) == ("PUT", "/_search/") else None
    )
    told = connect(engine, *ML, "--apply")
    assert told.exit_code == 1
    assert "by hand" in told.stderr
    assert re.search(r'curl .* -X DELETE .*"\$ENGINE"/_plugins/_ml/connectors/c1', told.stderr)
    assert re.search(r'curl .* -X DELETE .*"\$ENGINE"/_plugins/_ml/models/m2', told.stderr)


def test_undo_leaves_what_others_have_changed_since(connect: Connect) -> None:
    engine = opensearch()
    assert connect(engine, *PLUGIN, "--apply").exit_code == 0
    engine.index_settings["docs"][PIPELINE] = "theirs"
    del engine.pipelines["whyrank-docs"]
    told = connect(engine, *PLUGIN, "--undo", "--json")
    assert told.exit_code == 0, told.output
    assert [step["outcome"] for step in json.loads(told.stdout)] == ["left", "gone"]
    assert engine.index_settings["docs"][PIPELINE] == "theirs"


def test_an_undo_that_fails_can_be_tried_again(connect: Connect) -> None:
    engine = opensearch()
    assert connect(engine, *PLUGIN, "--apply").exit_code == 0
    bad = EngineAnswer(503, {"error": "busy"})
    engine.refuse = lambda method, path: bad if method == "DELETE" else None
    told = connect(engine, *PLUGIN, "--undo")
    assert told.exit_code == 1
    assert "1 of 2" in told.stderr
    engine.refuse = lambda method, path: None
    assert connect(engine, *PLUGIN, "--undo").exit_code == 0
    assert (engine.pipelines, engine.index_settings) == ({}, {"docs": {}})


def test_the_plugins_pipeline_becomes_the_default_and_keeps_what_was_there(connect: Connect) -> None:
    engine = opensearch()
    engine.aliases = {"docs": ["docs-1", "docs-2"]}
    engine.index_settings = {"docs-1": {PIPELINE: "old"}, "docs-2": {PIPELINE: "old"}}
    old = {"request_processors": [{"filter_query": {}}], "response_processors": [{"rename_field": {}}]}
    engine.pipelines["old"] = old
    told = connect(engine, *PLUGIN, "--window", "20", "--apply")
    assert told.exit_code == 0, told.output
    made = engine.pipelines["whyrank-docs"]
    assert made["request_processors"] == [{"filter_query": {}}, {"whyrank": {"ignore_failure": True}}]
    assert made["response_processors"][0] == {"rename_field": {}}
    ours = made["response_processors"][1]["whyrank"]
    assert (ours["url"], ours["fields"], ours["window"]) == ("http://whyrank:8080", ["title", "body"], 20)
    assert ours["ignore_failure"] is True
    assert {name: about[PIPELINE] for name, about in engine.index_settings.items()} == {
        "docs-1": "whyrank-docs",
        "docs-2": "whyrank-docs",
    }
    assert connect(engine, *PLUGIN, "--undo").exit_code == 0
    assert engine.index_settings == {"docs-1": {PIPELINE: "old"}, "docs-2": {PIPELINE: "old"}}
    assert engine.pipelines == {"old": old}


def test_an_address_that_the_nodes_do_not_allow_is_refused(connect: Connect) -> None:
    engine = opensearch()
    told = connect(engine, *PLUGIN[:-1], "http://elsewhere:8080", "--apply")
    assert told.exit_code == 1
    assert "add it to whyrank.allowed_urls in opensearch.yml of every node" in told.stderr
    assert engine.sent == []
    engine.node_settings = {}
    assert connect(engine, *PLUGIN[:-1], "http://127.0.0.1:8080").exit_code == 0
    assert connect(engine, *PLUGIN).exit_code == 1


@pytest.mark.parametrize(
    ("entry", "url", "covered"),
    [
        ("http://whyrank:8080", "http://whyrank:8080", True),
        ("http://whyrank:8080/", "http://WhyRank:8080/base", True),
        ("http://whyrank:8080", "http://whyrank:8081", False),
        ("http://whyrank:8080", "https://whyrank:8080", False),
        ("http://whyrank:*", "http://whyrank", True),
        ("http://whyrank", "http://whyrank:80", True),
        ("https://whyrank", "https://whyrank:443", True),
        ("http://whyrank", "http://whyrank:8080", False),
        ("https://*.example.org", "https://a.b.example.org", True),
        ("https://*.example.org", "https://example.org", False),
        ("https://*.example.org", "https://badexample.org", False),
        ("http://*:8080", "http://anything:8080", True),
        ("http://[::1]:*", "http://[::1]:8080", True),
        ("http://[::1]", "http://[::1]:80", True),
        ("http://[::1]", "http://[::1]:8080", False),
    ],
)
def test_allowed_addresses_are_read_as_the_plugin_reads_them(entry: str, url: str, covered: bool) -> None:
    assert plugin.covers([entry], url) is covered


def test_indices_with_different_defaults_are_not_made_alike(connect: Connect) -> None:
    engine = opensearch()
    engine.aliases = {"docs": ["docs-1", "docs-2"]}
    engine.index_settings = {"docs-1": {PIPELINE: "old"}, "docs-2": {}}
    told = connect(engine, *PLUGIN)
    assert told.exit_code == 1
    assert "docs-1: old" in told.stderr


def test_names_that_are_taken_are_not_overwritten(connect: Connect) -> None:
    engine = opensearch()
    engine.pipelines = {"whyrank": {}, "whyrank-docs": {}}
    es = elasticsearch()
    es.endpoints["whyrank"] = {}
    for at, arguments in ((engine, ML), (engine, PLUGIN), (es, CUSTOM)):
        told = connect(at, *arguments, "--apply")
        assert told.exit_code == 2
        assert "already" in told.stderr
        assert at.sent == []


async def test_the_policy_of_the_index_fills_what_is_not_given(connect: Connect) -> None:
    engine = opensearch()
    await PolicyStore(engine).put(Policy("docs", ("headline",), window=30, deadline_ms=700, mode=Mode.LABEL))
    told = await asyncio.to_thread(connect, engine, "opensearch", "--index", "docs", *SIDECAR, "--json")
    assert told.exit_code == 0, told.output
    plan = json.loads(told.stdout)
    assert plan["door"] == "plugin"
    (ours,) = plan["steps"][0]["request"]["body"]["response_processors"]
    assert ours["whyrank"] == {
        "ignore_failure": True,
        "url": "http://whyrank:8080",
        "fields": ["headline"],
        "window": 30,
        "deadline_ms": 700,
    }, "the mode stays the policy's, which can then be changed without the pipeline"


def test_the_proxy_is_an_address_and_changes_nothing(connect: Connect) -> None:
    for engine in (elasticsearch(), opensearch()):
        told = connect(engine, engine.kind.value, "--door", "proxy", "--index", "docs", *SIDECAR)
        assert "Point the application at http://whyrank:8080" in told.stdout
        assert "whyrank enable docs" in told.stdout
        assert connect(engine, engine.kind.value, "--door", "proxy", *SIDECAR, "--apply").exit_code == 0
        assert engine.sent == []


@pytest.mark.parametrize(
    ("kind", "version", "licence", "plugins", "processors", "fits"),
    [
        ("opensearch", "3.8.0", None, [], [], ["proxy"]),
        ("opensearch", "3.8.0", None, [], ["whyrank"], ["plugin", "proxy"]),
        ("opensearch", "3.8.0", None, ["opensearch-ml"], ["rerank"], ["proxy", "ml-commons"]),
        ("opensearch", "3.8.0", None, ["opensearch-ml"], [], ["proxy"]),
        ("opensearch", "2.11.0", None, ["opensearch-ml"], ["rerank"], ["proxy"]),
        ("elasticsearch", "9.5.3", None, [], [], ["proxy"]),
        ("elasticsearch", "9.5.3", "basic", [], [], ["proxy"]),
        ("elasticsearch", "9.5.3", "platinum", [], [], ["proxy"]),
        ("elasticsearch", "9.5.3", "enterprise", [], [], ["proxy", "custom"]),
        ("elasticsearch", "9.5.3", "trial", [], [], ["proxy", "custom"]),
        ("elasticsearch", "9.0.4", "enterprise", [], [], ["proxy"]),
        ("elasticsearch", "8.19.0", "enterprise", [], [], ["proxy", "custom"]),
        ("elasticsearch", "8.18.2", "enterprise", [], [], ["proxy"]),
    ],
)
async def test_which_doors_an_engine_can_have(
    kind: str, version: str, licence: str | None, plugins: list[str], processors: list[str], fits: list[str]
) -> None:
    engine = AdminEngine(EngineKind(kind), version)
    engine.licence, engine.plugins, engine.processors = licence, plugins, processors
    known = await survey(engine)
    assert {door.value for door in Door if DOORS[door].unfit(known) is None} == set(fits)
    assert best(known).value == fits[0]


def test_a_door_that_cannot_work_is_refused_with_those_that_can(connect: Connect) -> None:
    engine = elasticsearch()
    engine.licence = "basic"
    told = connect(engine, *CUSTOM)
    assert told.exit_code == 1
    assert "Enterprise licence; this cluster's is basic" in told.stderr
    assert "What can: proxy" in told.stderr
    told = connect(elasticsearch(), "opensearch", "--door", "plugin", *SIDECAR)
    assert told.exit_code == 1
    assert "is Elasticsearch 9.5.3" in told.stderr


def test_an_engine_that_does_not_say_what_it_has_is_believed(connect: Connect) -> None:
    engine = opensearch()
    denied = EngineAnswer(403, {"error": "no"})
    engine.refuse = lambda method, path: denied if path.startswith("/_nodes/") else None
    assert connect(engine, *PLUGIN).exit_code == 0


def test_an_engine_that_cannot_be_asked_is_printed_for(connect: Connect) -> None:
    engine = opensearch()
    engine.down = True
    for arguments, number in ((ML, "3.8.0"), (PLUGIN, "3.8.0"), (CUSTOM, "9.5.3")):
        told = connect(engine, *arguments, "--assume", number)
        assert told.exit_code == 0, told.output
        assert "without asking the engine" in told.stdout
    assert connect(engine, *ML).exit_code == 1
    assert connect(engine, *CUSTOM, "--assume", "8.11.0").exit_code == 1
    assert connect(engine, *ML, "--assume", "3.8.0", "--apply").exit_code == 2
    assert assumed_survey(EngineKind.OPENSEARCH, "3.8.0").version == (3, 8, 0)


@pytest.mark.parametrize(
    "url", ["whyrank:8080", "ftp://whyrank", "http://u:p@whyrank", "http://whyrank/?x=1", "http://"]
)
def test_addresses_that_the_engine_could_not_use_are_refused(connect: Connect, url: str) -> None:
    told = connect(opensearch(), *ML[:-1], url)
    assert told.exit_code == 2
    assert "--sidecar-url" in told.stderr


def test_fields_and_index_are_asked_for_where_they_are_needed(connect: Connect) -> None:
    without_fields = connect(opensearch(), "opensearch", "--door", "ml-commons", *SIDECAR)
    assert (without_fields.exit_code, "--fields" in without_fields.stderr) == (2, True)
    without_index = connect(opensearch(), "opensearch", "--door", "plugin", "--fields", "title", *SIDECAR)
    assert without_index.exit_code == 2
    assert "name the index" in without_index.stderr


def test_a_loopback_address_for_an_engine_elsewhere_is_remarked(connect: Connect) -> None:
    told = connect(opensearch(), *PLUGIN[:-1], "http://127.0.0.1:8080")
    assert "the engine's own machine" not in told.stdout
    assert printing.without_user("https://ada:pw@search.example:9200/") == "https://search.example:9200"
