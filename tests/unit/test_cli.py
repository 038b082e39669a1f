"""The command line: what it writes, what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from tests.fakes.engine import FakeEngine
from whyrank import console
from whyrank.cli import app
from whyrank.embedded import demo
from whyrank.embedded import state as states
from whyrank.embedded.parts import PartError
from whyrank.embedded.state import PartState, Phase, State
from whyrank.settings import Settings

SIDECAR = "http://sidecar.test"


class Asked(FakeEngine):
    """A fake that remembers which address it was opened for, and outlives being closed."""

    address = ""

    async def close(self) -> None:
        """The next command opens it again."""


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WHYRANK_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Asked:
    fake = Asked()

    async def connect(settings: Settings) -> Asked:
        fake.address = settings.engine_url
        await fake.info()
        return fake

    monkeypatch.setattr("whyrank.engines.connect", connect)
    return fake


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables as wide as they like."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(console, "out", Console(highlight=False, width=200))


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[State]:
    """A stack that is up as far as its home tells: this process holds it."""
    home = tmp_path / ".whyrank"
    parts = {
        name: PartState(name, port, "", Phase.READY, pid=os.getpid(), since=1.0)
        for port, name in enumerate(("engine", "valkey", "model", "worker", "sidecar"), start=9000)
    }
    urls = {"engine": "http://127.0.0.1:9000", "sidecar": SIDECAR, "page": f"{SIDECAR}/_whyrank/"}
    state = State(os.getpid(), 1.0, str(home), urls, parts)
    with states.holding(home):
        states.write(home, state)
        yield state


def call(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_status_without_a_stack_is_not_ready() -> None:
    assert call("status").exit_code == 1
    told = call("status", "--json")
    assert told.exit_code == 1
    assert json.loads(told.stdout) == {"up": False, "ready": False, "parts": []}


def test_a_home_that_nobody_holds_is_down_whatever_its_file_says(stack: State, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    states.write(other, stack)
    assert call("status", "--home", str(other)).exit_code == 1


def test_status_tells_each_part_and_is_zero_only_if_all_are_ready(stack: State) -> None:
    told = call("status", "--json")
    assert told.exit_code == 0
    parts = {part["name"]: part for part in json.loads(told.stdout)["parts"]}
    assert set(parts) == {"engine", "valkey", "model", "worker", "sidecar"}
    expected = {"pid": os.getpid(), "port": 9002, "ready": True, "restarts": 0, "since": 1.0}
    assert {key: parts["model"][key] for key in expected} == expected
    stack.parts["model"].phase = Phase.STARTING
    states.write(Path(stack.home), stack)
    told = call("status", "--json")
    assert told.exit_code == 1
    assert json.loads(told.stdout)["ready"] is False
    words = call("status").stdout
    assert "starting" in words
    assert "still warming" in words
    assert f"{SIDECAR}/_whyrank/" in words


def test_down_without_a_stack_says_so() -> None:
    told = call("down")
    assert told.exit_code == 1
    assert "nothing is up" in told.stderr


def test_up_beside_a_running_one_is_refused(stack: State) -> None:
    told = call("up", "--quiet")
    assert told.exit_code == 1
    assert "already up" in told.stderr


def test_enable_writes_the_policy_and_policies_lists_it(engine: Asked, wide: None) -> None:
    told = call(
        "enable", "books", "--fields", "title, body", "--window", "20", "--deadline-ms", "500", "--mode", "label"
    )
    assert told.exit_code == 0, told.output
    assert "there is no index books yet" in told.stderr
    listed = call("policies", "--json")
    assert listed.exit_code == 0
    [policy] = json.loads(listed.stdout)
    assert policy["fields"] == ["title", "body"]
    assert (policy["index"], policy["window"], policy["deadline_ms"], policy["mode"]) == ("books", 20, 500, "label")
    assert "books" in call("policies").stdout


def test_similarity_is_switched_off_and_on_by_one_word(engine: Asked) -> None:
    call("enable", "books", "--fields", "title")
    said = []
    for words in ([], ["--no-similarity"], ["--window", "20"], ["--similarity"]):
        assert call("enable", "books", *words).exit_code == 0
        said.append(policies()[0]["similarity"])
    assert said == [True, False, False, True], "what is not given stays"


def policies() -> list[dict[str, object]]:
    listed: list[dict[str, object]] = json.loads(call("policies", "--json").stdout)
    return listed


def test_disable_keeps_the_policy_switched_off(engine: Asked) -> None:
    call("enable", "books", "--fields", "title", "--window", "20")
    assert call("disable", "books").exit_code == 0
    [off] = policies()
    assert off["enabled"] is False
    assert call("enable", "books", "--deadline-ms", "500").exit_code == 0
    assert policies() == [{**off, "enabled": True, "deadline_ms": 500}], "what is not given stays"


def test_disable_forget_deletes_the_policy(engine: Asked) -> None:
    call("enable", "books", "--fields", "title")
    assert call("disable", "books", "--forget").exit_code == 0
    assert policies() == []
    again = call("disable", "books")
    assert again.exit_code == 2
    assert "INDEX" in again.stderr


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["--fields", " , "], "--fields"),
        (["--fields", "a", "--window", "0"], "--window"),
        (["--fields", "a", "--window", "201"], "--window"),
        (["--fields", "a", "--deadline-ms", "-1"], "--deadline-ms"),
        (["--fields", "a", "--mode", "guess"], "--mode"),
        (["--fields", "a", "--passage-tokens", "3"], "--passage-tokens"),
        (["--fields", ",".join(f"f{n}" for n in range(33))], "--fields"),
        ([], "--fields"),
    ],
)
def test_a_wrong_option_is_named(engine: Asked, words: list[str], option: str) -> None:
    told = call("enable", "books", *words)
    assert told.exit_code == 2
    assert option in told.stderr
    assert json.loads(call("policies", "--json").stdout) == []


def test_a_wrong_variable_is_named(engine: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHYRANK_PORT", "many")
    told = call("policies")
    assert told.exit_code == 2
    assert "WHYRANK_PORT" in told.stderr


def test_an_engine_out_of_reach_is_a_sentence(engine: Asked) -> None:
    engine.down = True
    told = call("enable", "books", "--fields", "title")
    assert told.exit_code == 1
    assert told.stderr.startswith("error: engine cannot be reached")
    assert "Traceback" not in told.output


def test_the_engine_is_the_options_then_the_environments_then_the_stacks(
    engine: Asked, stack: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("policies")
    assert engine.address == stack.urls["engine"]
    monkeypatch.setenv("WHYRANK_ENGINE_URL", "http://environment:9200")
    call("policies")
    assert engine.address == "http://environment:9200"
    call("policies", "--engine-url", "http://option:9200")
    assert engine.address == "http://option:9200"


def hit(id_: str, engine_position: int, position: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": id_,
        "index": "books",
        "position": position,
        "engine_position": engine_position,
        "move": engine_position - position,
        "status": "judged",
        "failure": None,
        "label": 2,
        "relevance": 0.9,
        "grounded": True,
        "explanation": f"The document states “words of {id_}”.",
        "quotes": [{"text": f"words of {id_}", "start": 0, "end": 5}],
        **changes,
    }


RANKING: dict[str, Any] = {
    "id": "r1",
    "status": "partial",
    "reason": "deadline",
    "judged": 2,
    "missing": 1,
    "hits": [
        hit("b", 1, 0),
        hit("a", 0, 1, label=0, relevance=0.1, grounded=False, explanation=None, quotes=[]),
        hit("c", 2, 2, status="unjudged", label=None, relevance=None, explanation=None, quotes=[]),
    ],
}


@pytest.fixture
def sidecar() -> Iterator[respx.MockRouter]:
    policy = {"index": "books", "fields": ["name.full", "body"], "window": 7, "deadline_ms": 300}
    found = {
        "hits": {
            "hits": [
                {"_index": "books", "_id": "b", "_source": {"name": {"full": "The  B\nbook"}}},
                {"_index": "books", "_id": "a", "_source": {"body": "A's body"}},
                {"_index": "books", "_id": "c", "_source": {"other": 1}},
            ]
        },
        "ext": {"whyrank": {"ranking_id": "r1"}},
    }
    with respx.mock(base_url=SIDECAR, assert_all_called=False) as router:
        router.get("/_whyrank/policies").respond(json={"policies": [policy]})
        router.post("/books/_search").respond(json=found)
        router.get("/v1/rankings/r1").respond(json=RANKING)
        yield router


def test_search_shows_both_orders_and_the_reasons(stack: State, sidecar: respx.MockRouter, wide: None) -> None:
    told = call("search", "books", "good words", "--wait", "2.5")
    assert told.exit_code == 0, told.output
    sent = json.loads(sidecar.routes[1].calls.last.request.content)
    assert sent["size"] == 7
    assert sent["ext"] == {"whyrank": {"query": "good words", "deadline_ms": 2500}}
    assert sent["query"]["multi_match"]["fields"] == ["name.full", "body"]
    lines = [line.split() for line in told.stdout.splitlines() if line.strip()]
    assert ["1", "A's", "body", "The", "B", "book", "↑1"] in lines
    assert ["2", "The", "B", "book", "A's", "body", "↓1"] in lines
    assert "words of b" in told.stdout
    assert "Explanation withheld" in told.stdout
    assert "Not judged yet" in told.stdout
    assert "partial" in told.stdout
    assert "still being judged" in told.stdout


def test_search_as_json_is_the_ranking(stack: State, sidecar: respx.MockRouter) -> None:
    told = call("search", "books", "words", "--json")
    assert json.loads(told.stdout) == RANKING
    assert "deadline_ms" not in json.loads(sidecar.routes[1].calls.last.request.content)["ext"]["whyrank"]


def test_search_of_an_index_without_a_policy_names_the_index(stack: State, sidecar: respx.MockRouter) -> None:
    told = call("search", "films", "words")
    assert told.exit_code == 2
    assert "INDEX" in told.stderr
    assert "whyrank enable films" in told.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.Response(404, json={"error": {"reason": "no such index"}, "status": 404}), "no such index: books"),
        (httpx.Response(503, json={"error": {"message": "the engine is out of reach"}}), "the engine is out of reach"),
        (httpx.Response(200, text="<html>"), "did not answer with JSON"),
        (
            httpx.Response(200, json={"hits": {"hits": []}}, headers={"x-whyrank-reason": "policy_disabled"}),
            "not rescored: policy_disabled",
        ),
    ],
)
def test_what_went_wrong_with_a_search_is_a_sentence(
    stack: State, sidecar: respx.MockRouter, answer: httpx.Response, said: str
) -> None:
    sidecar.post("/books/_search").mock(return_value=answer)
    told = call("search", "books", "words")
    assert told.exit_code == 1
    assert said in told.stderr


def test_a_sidecar_out_of_reach_is_a_sentence(sidecar: respx.MockRouter) -> None:
    sidecar.get("/_whyrank/policies").mock(side_effect=httpx.ConnectError("refused"))
    told = call("search", "books", "words", "--sidecar-url", SIDECAR)
    assert told.exit_code == 1
    assert "no sidecar answers" in told.stderr


def test_markup_in_documents_is_text(stack: State, sidecar: respx.MockRouter, wide: None) -> None:
    ranking = {**RANKING, "hits": [hit("b", 0, 0, explanation="[red]x[/nothing]", quotes=[])]}
    sidecar.get("/v1/rankings/r1").respond(json=ranking)
    told = call("search", "books", "words")
    assert told.exit_code == 0, told.output
    assert "[red]x[/nothing]" in told.stdout


@pytest.mark.parametrize(
    ("seconds", "words"), [(-1, "0 s"), (5, "5 s"), (119, "119 s"), (180, "3 min"), (7200, "2 h"), (260_000, "3 d")]
)
def test_durations(seconds: float, words: str) -> None:
    assert console.duration(seconds) == words


def test_demos_of_several_folders_have_indices_of_their_own() -> None:
    assert demo.index_name(None) == "whyrank-demo"
    assert demo.index_name(Path("/pages/My Manual_2")) == "whyrank-demo-my-manual-2"
    assert demo.index_name(Path("/")) == "whyrank-demo-pages"


def test_a_supervisor_that_ends_at_once_is_told_with_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended:
        @staticmethod
        def poll() -> int:
            return 1

    def up_detached(home: Path, **_: object) -> Ended:
        (home / "logs").mkdir(parents=True)
        (home / "logs" / "supervisor.log").write_text("no flour\n")
        return Ended()

    monkeypatch.setattr("whyrank.embedded.stack.up_detached", up_detached)
    with pytest.raises(PartError, match="no flour"):
        demo.bring_up(tmp_path / "home", with_model=True, sidecar_port=8080)


def test_a_stack_that_is_up_is_used(stack: State) -> None:
    stack.parts["model"].phase = Phase.STARTING
    states.write(Path(stack.home), stack)
    assert demo.bring_up(Path(stack.home), with_model=True, sidecar_port=1) == stack
