"""Judged collections in all their forms, written by the tests as their publishers write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.evaluate.collections import HeldOut, judged_queries, open_folder
from training.evaluate.collections.bright import BrightTask
from training.evaluate.collections.held_out import Grades
from training.records import Group, GroupPassage, Judgement, Role, Source, Split
from whyrank.errors import BadRequestError


def lines(path: Path, *objects: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(each) + "\n" for each in objects))


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    folder = tmp_path / "small"
    lines(folder / "corpus.jsonl", {"_id": "a", "title": "A", "text": "one"}, {"_id": 7, "text": "two"})
    lines(folder / "queries.jsonl", {"_id": "1", "text": "first"}, {"_id": "2", "text": "x"}, {"_id": "3", "text": "y"})
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\ta\t2\n1\t7\t0\n2\ta\t1\n2\t7\t-1\n")
    (folder / "exclude.tsv").write_text("query-id\tcorpus-id\n2\ta\n")
    return folder


def test_beir(beir: Path) -> None:
    (found,) = open_folder(beir)
    assert found.name == "small"
    assert found.queries == {"1": "first", "2": "x"}
    assert found.qrels == {"1": {"a": 2, "7": 0}, "2": {"a": 1, "7": 0}}
    assert found.excluded == {"2": frozenset({"a"})}
    assert [(d.id, d.title, d.text) for d in found.documents()] == [("a", "A", "one"), ("7", "", "two")]
    # The only relevant document of the second is excluded: it cannot be scored
    assert judged_queries(found) == ["1"]


def test_the_content_hash_follows_what_the_first_stage_sees(beir: Path) -> None:
    before = open_folder(beir)[0].content_hash()
    assert open_folder(beir)[0].content_hash() == before
    (beir / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\ta\t1\n2\ta\t1\n")
    assert open_folder(beir)[0].content_hash() == before
    lines(beir / "corpus.jsonl", {"_id": "a", "text": "changed"})
    assert open_folder(beir)[0].content_hash() != before


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n1\ta\n", r"test\.tsv:2: no `score`"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n1\ta\tmuch\n", r"test\.tsv:2: `score` is 'much'"),
        ("queries.jsonl", '{"_id": "1", "text": "a"}\n{"_id": "2"}\n', r"queries\.jsonl:2: .*`text`"),
        ("queries.jsonl", "{\n", r"queries\.jsonl:1: "),
        ("exclude.tsv", "1\n", r"exclude\.tsv:1: no `corpus-id`"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(beir: Path, file: str, text: str, words: str) -> None:
    (beir / file).write_text(text)
    with pytest.raises(BadRequestError, match=words):
        open_folder(beir)


def test_a_corpus_is_read_as_it_is_used(beir: Path) -> None:
    (beir / "corpus.jsonl").write_text('{"_id": "a", "text": "one"}\n{"_id": "b"}\n')
    (found,) = open_folder(beir)
    with pytest.raises(BadRequestError, match=r"corpus\.jsonl:2: .*`text`"):
        list(found.documents())


def parquet(path: Path, **columns: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


@pytest.fixture
def bright(tmp_path: Path) -> Path:
    parquet(tmp_path / "documents" / "pony-00000-of-00001.parquet", id=["p/1.txt", "p/2.txt"], content=["one", "two"])
    parquet(tmp_path / "documents" / "biology-00000-of-00002.parquet", id=["b1"], content=["a cell"])
    parquet(tmp_path / "documents" / "biology-00001-of-00002.parquet", id=["b2"], content=["a leaf"])
    parquet(tmp_path / "long_documents" / "pony-00000-of-00001.parquet", id=["whole"], content=["one two"])
    none: list[list[str]] = [["N/A"]]
    for task, gold, excluded in (("biology", ["b1"], ["b2"]), ("pony", ["p/2.txt"], "N/A")):
        parquet(
            tmp_path / "examples" / f"{task}-00000-of-00001.parquet",
            id=["0"],
            query=[f"a question of {task}"],
            reasoning=["because"],
            gold_ids=[gold],
            gold_ids_long=[["whole"]],
            excluded_ids=none if excluded == "N/A" else [excluded],
        )
    return tmp_path


def test_bright_has_a_collection_for_each_set(bright: Path) -> None:
    biology, pony = open_folder(bright)
    assert (biology.name, pony.name) == ("bright-biology", "bright-pony")
    assert [(d.id, d.text) for d in biology.documents()] == [("b1", "a cell"), ("b2", "a leaf")]
    assert biology.queries == {"0": "a question of biology"}
    assert biology.qrels == {"0": {"b1": 1}}
    assert biology.excluded == {"0": frozenset({"b2"})}
    assert pony.excluded == {"0": frozenset()}


def test_bright_with_whole_pages(bright: Path) -> None:
    found = BrightTask(bright, "pony", long=True)
    assert [d.id for d in found.documents()] == ["whole"]
    assert found.qrels == {"0": {"whole": 1}}
    with pytest.raises(BadRequestError, match=r"long_documents has no biology-\*\.parquet"):
        BrightTask(bright, "biology", long=True)


def test_a_parquet_file_that_is_wrong_is_named(bright: Path) -> None:
    parquet(bright / "examples" / "pony-00000-of-00001.parquet", id=["0"], query=["q"])
    with pytest.raises(BadRequestError, match=r"pony-00000-of-00001\.parquet: no column `gold_ids`"):
        BrightTask(bright, "pony")
    (bright / "examples" / "pony-00000-of-00001.parquet").write_text("no parquet")
    with pytest.raises(BadRequestError, match=r"cannot read .*pony-00000-of-00001\.parquet"):
        BrightTask(bright, "pony")


@pytest.fixture
def trec(tmp_path: Path) -> Path:
    (tmp_path / "topics.tsv").write_text("1\tfirst question\n2\tsecond\n")
    (tmp_path / "qrels.txt").write_text("1 0 a 3\n1 0 b -2\n")
    (tmp_path / "bm25.run").write_text("1 Q0 b 1 1.5 tag\n1 Q0 a 2 2.5 tag\n1\tQ0\tc\t3\t-1e1\ttag\n")
    (tmp_path / "trec.toml").write_text('run = "bm25.run"\ncorpus = "corpus.jsonl"\nname = "dl"\n')
    documents = [{"_id": id, "text": id} for id in "abcd"]
    lines(tmp_path / "corpus.jsonl", *documents)
    return tmp_path


def test_trec(trec: Path) -> None:
    (found,) = open_folder(trec)
    assert (found.name, found.queries) == ("dl", {"1": "first question"})
    assert found.qrels == {"1": {"a": 3, "b": 0}}
    assert found.given is not None
    # By score: the file's ranks are not looked at
    assert [(hit.id, hit.score) for hit in found.given["1"]] == [("a", 2.5), ("b", 1.5), ("c", -10.0)]
    assert [document.id for document in found.documents()] == ["a", "b", "c"]


def test_trec_with_the_texts_in_an_index(trec: Path) -> None:
    (trec / "trec.toml").write_text('run = "bm25.run"\nindex = "pages"\nfields = ["title", "body"]\n')
    (found,) = open_folder(trec)
    assert found.texts_in is not None
    assert (found.texts_in.index, found.texts_in.fields) == ("pages", ("title", "body"))
    assert list(found.documents()) == []


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("trec.toml", 'run = "bm25.run"\n', "give `corpus` or `index`"),
        ("trec.toml", 'corpsu = "x"\n', r"trec\.toml: .*corpsu"),
        ("bm25.run", "1 Q0 a 1\n", r"bm25\.run:1: no `score`"),
        ("qrels.txt", "1 0 a x\n", r"qrels\.txt:1: `grade` is 'x'"),
        ("topics.tsv", "1 no tab\n", r"topics\.tsv:1: no `text`"),
    ],
)
def test_what_is_wrong_in_trecs_files_is_named(trec: Path, file: str, text: str, words: str) -> None:
    (trec / file).write_text(text)
    with pytest.raises(BadRequestError, match=words):
        open_folder(trec)


def group(id: str, split: Split, source: Source = Source.ANCHOR, origin: str = "o") -> Group:
    passages = (
        GroupPassage("hard", "h", Role.HARD, 3.0),
        GroupPassage("positive", "p", Role.POSITIVE, 2.0, truncated=True),
        GroupPassage("missed", "m", Role.POSITIVE),
        GroupPassage("random", "r", Role.RANDOM),
    )
    return Group(id, f"query {id}", source, origin, "site", split, passages)


def judgement(group: str, passage: str, label: int) -> Judgement:
    return Judgement(group, passage, "t", label, (0.0, 0.0, 1.0), 1.0, "")


def test_held_out_groups_have_the_engines_candidates_and_all_positives() -> None:
    groups = [group("1", Split.TEST), group("2", Split.TRAIN), group("3", Split.TEST, Source.SYNTHETIC)]
    found = HeldOut("held-out", groups, [judgement("1", "hard", 2), judgement("2", "hard", 2)], split=Split.TEST)
    assert found.queries == {"1": "query 1"}
    assert [(hit.id, hit.score) for hit in found.given["1"]] == [("hard", 3.0), ("positive", 2.0)]
    assert found.given["1"][1].passage is not None
    assert found.given["1"][1].passage.truncated
    assert found.qrels["1"] == {"hard": 0, "positive": 1, "missed": 1, "random": 0}
    assert found.labels == {("1", "hard"): 2}
    assert found.rephrased == {"1": ("query 3",)}


def test_held_out_groups_by_the_teachers_labels() -> None:
    judged = [judgement("1", "hard", 2), judgement("1", "positive", 0)]
    found = HeldOut("held-out", [group("1", Split.TEST)], judged, split=Split.TEST, grades=Grades.TEACHER)
    assert found.qrels == {"1": {"hard": 2, "positive": 0}}


def test_synthetic_queries_of_an_origin_with_two_queries_rephrase_neither() -> None:
    groups = [group("1", Split.TEST), group("2", Split.TEST), group("3", Split.TEST, Source.SYNTHETIC)]
    assert HeldOut("held-out", groups, [], split=Split.TEST).rephrased == {}
