"""Groups: who may stand in one, in which order, and that nothing of a held-out page trains."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.fakes.engine import FakeEngine
from tests.unit.training.mined import INDEX, plain, quarry
from training.mine import grouping
from training.mine.config import MineConfig
from training.mine.grouping import Hit, group_of, search
from training.mine.sections import heading_seeds, sentence_seeds
from training.mine.seeds import Quarry, Seed, Target
from training.mine.spool import Spool
from training.mine.words import sentences
from training.records import Group, RecordsError, Role, Source, Split
from whyrank.errors import EngineUnavailableError


@pytest.fixture
def base(tmp_path: Path) -> Quarry:
    documents = {f"p{i:02}": plain(f"p{i:02}", site=f"site{i % 2}") for i in range(60)}
    documents["copy"] = {**documents["p07"], "url": "https://copy/"}
    return quarry(tmp_path, documents, passage_tokens=160)[0]


def sentence(base: Quarry, number: int) -> Seed:
    return next(sentence_seeds(base.corpus.page(number), number, base))


def numbers(base: Quarry, split: Split) -> list[int]:
    return [number for number in range(len(base.corpus)) if base.corpus.split_of(number) is split]


def made(seed: Seed, hits: list[Hit], base: Quarry) -> Group:
    group = group_of(seed, hits, base)
    assert isinstance(group, Group), group
    return group


def page_of(id_: str) -> str:
    return id_.partition("#")[0]


def test_a_group_is_in_the_engines_order(base: Quarry) -> None:
    train = numbers(base, Split.TRAIN)
    seed = sentence(base, train[3])
    hits = [Hit(number, 9.0 - at) for at, number in enumerate(train[:12])]
    group = made(seed, hits, base)
    assert (group.id, group.query, group.split, group.origin) == (
        seed.id,
        seed.query,
        Split.TRAIN,
        base.corpus.ids[train[3]],
    )
    assert Counter(passage.role for passage in group.passages) == {Role.POSITIVE: 1, Role.HARD: 6, Role.RANDOM: 1}
    scores = [passage.engine_score for passage in group.passages]
    assert scores == sorted(scores, key=lambda score: -(score or 0))
    assert scores[-1] is None
    (positive,) = [passage for passage in group.passages if passage.role is Role.POSITIVE]
    assert positive.engine_score == 6.0
    assert seed.query not in positive.text
    assert positive.text.startswith(f"Topic {page_of(positive.id)}\n")
    hard = [page_of(passage.id) for passage in group.passages if passage.role is Role.HARD]
    # The best hits, one passage of each page; of the positive's own page another passage
    assert hard == [base.corpus.ids[number] for number in train[:6]]
    assert len({passage.id for passage in group.passages}) == 8
    (other,) = [passage for passage in group.passages if passage.role is Role.RANDOM]
    assert base.corpus.sites[base.corpus.numbers[page_of(other.id)]] != group.site
    assert made(seed, hits, base) == group


@pytest.mark.parametrize("source", [Source.HEADING, Source.SENTENCE])
def test_the_others_lack_what_the_positive_lacks(base: Quarry, source: Source) -> None:
    """Else what is missing tells the positive, and nothing else is learnt."""
    seeds_of = {Source.HEADING: heading_seeds, Source.SENTENCE: sentence_seeds}[source]
    number = numbers(base, Split.TRAIN)[0]
    seed = next(seeds_of(base.corpus.page(number), number, base))
    group = made(seed, [Hit(other, 9.0 - other / 100) for other in numbers(base, Split.TRAIN)], base)
    for passage in group.passages:
        page, _, piece = passage.id.partition("#")
        whole = base.corpus.page(base.corpus.numbers[page]).pieces[int(piece)]
        title, _, text = passage.text.partition("\n")
        assert title == f"Topic {page}"
        heading, _, below = whole.text.partition("\n")
        if source is Source.HEADING:
            assert text == (below if whole.headings[:1] == (heading,) else whole.text)
        else:
            assert len(sentences(text)) == len(sentences(whole.text)) - 1


def test_links_take_nothing_out_of_any_passage(base: Quarry) -> None:
    train = numbers(base, Split.TRAIN)
    seed = base.seed(Source.ANCHOR, "some words", train[0], (Target(train[1], 0),))
    for passage in made(seed, [Hit(number, 5.0) for number in train[2:12]], base).passages:
        page, _, piece = passage.id.partition("#")
        whole = base.corpus.page(base.corpus.numbers[page]).pieces[int(piece)]
        assert passage.text == f"Topic {page}\n{whole.text}"


def test_training_groups_show_nothing_held_out_and_test_groups_anything(base: Quarry) -> None:
    everything = [Hit(number, 99.0 - number) for number in range(len(base.corpus))]
    shown: dict[Split, set[Split]] = {split: set() for split in Split}
    for number in range(len(base.corpus)):
        group = group_of(sentence(base, number), everything[number:] + everything[:number], base)
        if isinstance(group, Group):
            pages = {base.corpus.numbers[page_of(passage.id)] for passage in group.passages}
            shown[group.split] |= {base.corpus.split_of(page) for page in pages}
    assert shown[Split.TRAIN] == {Split.TRAIN}
    assert shown[Split.VALIDATION] == {Split.TRAIN, Split.VALIDATION}
    assert shown[Split.TEST] == set(Split)


def test_copies_of_a_passage_do_not_stand_beside_it(base: Quarry) -> None:
    original, copy = base.corpus.numbers["p07"], base.corpus.numbers["copy"]
    seed = sentence(base, original)
    group = made(seed, [Hit(copy, 9.0), Hit(original, 8.0), Hit(3, 7.0)], base)
    positive = next(passage.id for passage in group.passages if passage.role is Role.POSITIVE)
    assert f"copy#{positive.partition('#')[2]}" not in {passage.id for passage in group.passages}


def test_the_question_itself_is_hidden_and_positives_are_few(base: Quarry) -> None:
    train = numbers(base, Split.TRAIN)
    targets = tuple(Target(number, 0) for number in train[1:9])
    seed = base.seed(Source.STACKEXCHANGE, "some words", train[0], targets, (train[0],))
    group = made(seed, [Hit(number, 5.0) for number in train[:1] + train[20:30]], base)
    assert Counter(p.role for p in group.passages) == {Role.POSITIVE: 3, Role.HARD: 4, Role.RANDOM: 1}
    assert base.corpus.ids[train[0]] not in {page_of(passage.id) for passage in group.passages}
    # What is a positive, but for the lack of room, is no negative either
    positives = {base.corpus.ids[aim.page] for aim in targets}
    assert sum(page_of(passage.id) in positives for passage in group.passages) == 3


def test_without_hits_the_others_are_drawn(base: Quarry) -> None:
    group = made(sentence(base, numbers(base, Split.TRAIN)[0]), [], base)
    assert Counter(p.role for p in group.passages) == {Role.POSITIVE: 1, Role.RANDOM: 7}
    assert {p.engine_score for p in group.passages} == {None}


def test_why_there_is_no_group(base: Quarry, tmp_path: Path) -> None:
    held = numbers(base, Split.TEST)[0]
    train = numbers(base, Split.TRAIN)[0]
    seed = base.seed(Source.STACKEXCHANGE, "some words", train, (Target(held, 0),))
    assert group_of(seed, [], base) == "positive_held_out"
    (tmp_path / "alone").mkdir()
    alone, _ = quarry(tmp_path / "alone", {"only": plain("only")}, siblings=0)
    assert group_of(sentence(alone, 0), [Hit(0, 1.0)], alone) == "no_negatives"


async def test_an_engine_that_is_overloaded_is_given_time(base: Quarry, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine()
    await engine.put_document(INDEX, "p01", {"title": "write locks", "url": "u"}, refresh=True)
    await engine.put_document(INDEX, "new", {"title": "write locks", "url": "v"}, refresh=True)
    failures = [EngineUnavailableError("429")] * 3
    real = engine.search_many

    async def sometimes(index: str, bodies: object) -> object:
        if failures:
            raise failures.pop()
        return await real(index, bodies)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "search_many", sometimes)
    monkeypatch.setattr(grouping, "_PAUSE_S", 0.001)
    seed = base.seed(Source.HEADING, "write locks", 1, (Target(1, 0),))
    # A page that was written since the index was read is passed over
    assert await search(engine, [seed], base.corpus, MineConfig(index=INDEX)) == [[Hit(1, 2.0)]]
    failures += [EngineUnavailableError("429")] * 99
    with pytest.raises(EngineUnavailableError):
        await search(engine, [seed], base.corpus, MineConfig(index=INDEX))


class TestSpool:
    def test_what_was_not_committed_is_written_again(self, tmp_path: Path) -> None:
        path = tmp_path / "spool.jsonl"
        seeds = [Target(number, 0) for number in range(5)]
        first = Spool(path)
        first.add(seeds[:2])
        first.commit("two")
        first.add(seeds[2:4])
        first._file.write(b'{"page": 9, "pi')
        first.close()  # as a kill would leave it: written, not committed
        second = Spool(path)
        assert (second.state.mark, second.state.lines, second.state.done) == ("two", 2, False)
        second.add(seeds[2:])
        second.commit("five", done=True)
        second.close()
        third = Spool(path)
        assert list(third.read(Target)) == seeds
        assert list(third.read(Target, 3)) == seeds[3:]
        assert third.state.done
        third.close()

    def test_a_file_that_lost_lines_is_said(self, tmp_path: Path) -> None:
        path = tmp_path / "spool.jsonl"
        spool = Spool(path)
        spool.add([Target(1, 1)])
        spool.commit(None)
        spool.close()
        path.write_bytes(b"")
        with pytest.raises(RecordsError, match="shorter than its checkpoint"):
            Spool(path)
        path.with_name("spool.jsonl.checkpoint").write_bytes(b"{")
        with pytest.raises(RecordsError, match="begin anew"):
            Spool(path)
