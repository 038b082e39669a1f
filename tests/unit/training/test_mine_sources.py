"""Where queries come from: links, headings, sentences, questions, clicks; and what makes none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.training.mined import link, paragraph, plain, quarry, source
from training.mine import addresses
from training.mine.anchors import anchor_seeds, says_something
from training.mine.clicks import Asked, Clicked, asked, click_seeds, clicked, origin_of, together
from training.mine.questions import question_seeds
from training.mine.sections import heading_seeds, sentence_seeds, tells, unnumbered
from training.mine.seeds import Chosen, Quarry, Seed, Target, group_id
from training.mine.words import Titles, is_code, real_words
from training.records import Source, Split
from whyrank.engines import ScanHit

LONG = "The lock is held until the transaction ends, and other writers wait for it in the meantime. " * 3


def anchors(folder: Path, documents: dict[str, dict], **config: object) -> tuple[list[Seed], dict[str, int], Quarry]:  # type: ignore[type-arg]
    found, drops = quarry(folder, documents, **config)
    return [seed for seeds in anchor_seeds(found) for seed in seeds], drops, found


def target() -> dict[str, object]:
    return source("target", {"Locking": LONG, "Shared cache mode": LONG.replace("lock", "cache"), "Short": "few words"})


def test_an_anchor_asks_for_the_section_that_it_leads_to(tmp_path: Path) -> None:
    page = plain("a", links=[link("target#Shared-cache-mode", "how connections share one cache")])
    (seed,), drops, found = anchors(tmp_path, {"a": page, "target": target()})
    assert (seed.query, seed.origin, seed.source) == ("how connections share one cache", "target", Source.ANCHOR)
    (aim,) = seed.targets
    assert "Shared cache mode" in found.corpus.page(aim.page).pieces[aim.piece].headings
    assert seed.id == group_id(Source.ANCHOR, "target", seed.query)
    assert drops == {}


def test_an_anchor_without_a_place_asks_for_the_best_passage(tmp_path: Path) -> None:
    long = source("target", {"One": LONG * 5, "Two": LONG.replace("lock", "cache") * 5})
    page = plain("a", links=[link("target#no-such-place", "holding a cache for writers")])
    (seed,), _, found = anchors(tmp_path, {"a": page, "target": long})
    assert "cache" in found.corpus.page(1).pieces[seed.targets[0].piece].text


@pytest.mark.parametrize(
    ("anchor", "why"),
    [
        ("Topic target", "is_the_title"),
        ("topic  TARGET!", "is_the_title"),
        ("Shared Cache Mode", "is_the_heading"),
        ("3.2. Shared cache mode", "is_the_heading"),
        ("cache", "says_nothing"),
        ("click here", "says_nothing"),
        ("see the documentation", "says_nothing"),
        ("this previous question", "says_nothing"),
        ("sqlite3_open() SQLITE_OK", "says_nothing"),
        ("12 34", "says_nothing"),
    ],
)
def test_anchors_that_say_nothing_new_are_dropped(tmp_path: Path, anchor: str, why: str) -> None:
    documents = {"a": plain("a", links=[link("target#Shared-cache-mode", anchor)]), "target": target()}
    seeds, drops, _ = anchors(tmp_path, documents)
    assert seeds == []
    assert drops == {f"anchor.{why}": 1}


def test_links_out_of_the_index_to_many_targets_and_of_navigation_are_dropped(tmp_path: Path) -> None:
    documents = {f"p{i}": plain(f"p{i}") for i in range(8)} | {"target": target()}
    documents["p0"]["links"] = [link("elsewhere", "some words lead out"), link("p1", "words to many places")]
    documents["p1"]["links"] = [link("p2", "Words, to many places!"), link("target#Short", "brief remark of nothing")]
    for i in range(5):
        documents[f"p{i}"]["links"].append(link("target", "frequently asked locking matters"))
    seeds, drops, _ = anchors(tmp_path, documents, max_anchor_pages=4)
    assert seeds == []
    assert drops == {
        "anchor.leads_out": 1, "anchor.leads_to_many": 1, "anchor.is_navigation": 1, "anchor.short_target": 1,
    }  # fmt: skip
    seeds, _, _ = anchors(tmp_path, documents, max_anchor_pages=5, min_words=2)
    assert sorted(seed.query for seed in seeds) == ["brief remark of nothing", "frequently asked locking matters"]


def test_a_short_anchor_gets_the_heading_around_it(tmp_path: Path) -> None:
    def query(heading: str) -> str:
        page = source("a", {heading: f"Writers need write access to it. {paragraph('a')}", "Other": paragraph("b")})
        page["links"] = [link("target", "write access")]
        (seed,), _, _ = anchors(tmp_path, {"a": page, "target": target()})
        return seed.query

    assert query("2. Opening files") == "write access Opening files"
    assert query("See also") == "write access"
    assert query("Write access") == "write access"


@pytest.mark.parametrize("anchor", ["URI filename", "compile time option", "how do I add two numbers"])
def test_anchors_that_say_something(anchor: str) -> None:
    assert says_something(anchor)
    assert not says_something(f"{anchor} " * 20)


def test_a_heading_with_its_title_asks_for_its_section_without_the_heading(tmp_path: Path) -> None:
    sections = {"4.1. Write locks": LONG * 3, "Introduction": LONG * 3, "Topic a": LONG * 3, "Tiny part": "few"}
    found, drops = quarry(tmp_path, {"a": source("a", sections)}, passage_tokens=160)
    seeds = list(heading_seeds(found.corpus.page(0), 0, found))
    (seed,) = seeds
    assert seed.query == "Write locks Topic a"
    (aim,) = seed.targets
    assert aim.text is not None
    assert "Write locks" not in aim.text
    assert found.corpus.page(0).pieces[aim.piece].text == f"4.1. Write locks\n{aim.text}"
    assert drops == {"heading.says_nothing": 1, "heading.is_the_title": 1, "heading.short_section": 1}


def test_what_a_site_puts_behind_each_title_is_no_part_of_queries(tmp_path: Path) -> None:
    documents = {f"p{i}": plain(f"p{i}", site="s") | {"title": f"Topic {i} — Handbook 3.11"} for i in range(6)}
    found, _ = quarry(tmp_path, documents)
    (seed, *_) = heading_seeds(found.corpus.page(2), 2, found)
    assert seed.query.endswith(" Topic 2")
    titles = Titles([("s", "One - Two"), ("s", "Three - Two")])
    assert titles.plain("s", "One - Two") == "One Two"
    assert titles.plain("other", "x") == "x"


def test_a_sentence_asks_for_the_rest_of_its_passage(tmp_path: Path) -> None:
    found, _ = quarry(tmp_path, {"a": plain("a")}, passage_tokens=160)
    page = found.corpus.page(0)
    seeds = list(sentence_seeds(page, 0, found))
    assert len(seeds) == len(page.pieces)
    for seed in seeds:
        (aim,) = seed.targets
        piece = page.pieces[aim.piece].text
        assert aim.text is not None
        assert seed.query in piece
        assert seed.query not in aim.text
        assert sorted((aim.text + " " + seed.query).split()) == sorted(piece.split())


@pytest.mark.parametrize(
    "text",
    [
        "SELECT count(*) FROM t1 WHERE x = y AND f(z) > 3; " * 8,
        "name | type | value | name | type | value | a | b " * 8,
        "Too short. Also short. Quite short too. " * 12,
        "no capital letter begins this one, which goes on for many words of no use. " * 6,
        "The same sentence stands here twice and is therefore of no use at all. " * 6,
    ],
)
def test_code_tables_and_repetitions_make_no_sentence(tmp_path: Path, text: str) -> None:
    found, drops = quarry(tmp_path, {"a": source("a", {"Part": text})})
    assert list(sentence_seeds(found.corpus.page(0), 0, found)) == []
    assert drops == {"sentence.no_sentence": len(found.corpus.page(0).pieces)}


@pytest.mark.parametrize(
    ("heading", "plain_"),
    [("1.3. How it works", "How it works"), ("Chapter 4. Files ¶", "Files"), ("A. Appendix words", "Appendix words"),
     ("A cat", "A cat"), ("3D graphics", "3D graphics"), ("2 ways", "ways"), ("1.", "1.")],
)  # fmt: skip
def test_numbers_of_headings(heading: str, plain_: str) -> None:
    assert unnumbered(heading) == plain_


def test_words_of_code_are_no_words() -> None:
    assert real_words("call sqlite3_open() with a.file --and it's CamelCase now") == ["call", "now"]
    assert is_code("x = f(y); z[0] -> w")
    assert not is_code("A file that was opened by open() is closed again when it goes.")
    assert tells("Write-ahead logging")
    assert not tells("See also")


def questions() -> dict[str, dict[str, object]]:
    def post(name: str, title: str = "", links: object = (), **post: object) -> dict[str, object]:
        prefix = "questions" if title else "a"
        url = f"https://qa.org/{prefix}/{name}"
        return source(name, {"": f"{name} says: {LONG}"}, site="qa.org") | {
            "url": url, "title": title, "headings": [], "links": links, "post": post,
        }  # fmt: skip

    linked = [link("target", "docs"), {"url": "http://qa.org/q/5/slug?x=1", "anchor": "there"}]
    return {
        "qa/1": post("1", "Why do writers wait?", kind="question", score=3, linked=["qa/8", "qa/404"]),
        "qa/2": post("2", kind="answer", score=4, parent="qa/1", links=linked),
        "qa/3": post("3", kind="answer", score=1, parent="qa/1", accepted=True),
        "qa/4": post("4", kind="answer", score=0, parent="qa/1"),
        "qa/5": post("5", "What is a cache?", kind="question", score=0),
        "qa/6": post("6", kind="answer", score=2, parent="qa/5"),
        "qa/7": post("7", kind="answer", score=7, parent="qa/5"),
        "qa/8": post("8", "Nobody knows?", kind="question", score=0),
        "target": target(),
    }


def test_a_question_asks_for_its_answers_and_what_they_link_to(tmp_path: Path) -> None:
    found, drops = quarry(tmp_path, questions())
    corpus = found.corpus
    seeds = list(question_seeds(corpus.page(0), 0, found))
    assert [seed.query for seed in seeds] == [
        "Why do writers wait?",
        f"Why do writers wait? {' '.join(('1 says: ' + LONG).split()[:40])}",
    ]
    for seed in seeds:
        # Accepted, voted up, the document, the linked question's best answer; not the one without a vote
        assert [corpus.ids[aim.page] for aim in seed.targets] == ["qa/3", "qa/2", "target", "qa/7"]
        assert seed.hidden == (0,)
    assert seeds[0].targets[0].text is None
    assert list(question_seeds(corpus.page(7), 7, found)) == []
    assert drops == {"stackexchange.no_answer": 1}
    assert list(question_seeds(corpus.page(1), 1, found)) == []
    assert list(question_seeds(corpus.page(8), 8, found)) == []


def test_an_answer_that_begins_with_its_question_does_not_show_it(tmp_path: Path) -> None:
    documents = questions()
    documents["qa/3"]["body"] = f"WHY do writers wait?\n{LONG}"
    found, _ = quarry(tmp_path, documents)
    seed = next(question_seeds(found.corpus.page(0), 0, found))
    assert seed.targets[0].text == LONG


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("HTTP://Ex.ORG:80/a/index.html#b", ("//ex.org/a/", "b")),
        ("https://ex.org/a/", ("//ex.org/a/", "")),
        ("https://ex.org/a?b=1#c%20d", ("//ex.org/a?b=1", "c d")),
        ("file:///usr/share/a%20b.html#x", ("///usr/share/a b.html", "x")),
        ("https://qa.org/questions/12/some-slug", ("//qa.org/posts/12", "")),
        ("https://qa.org/questions/12/some-slug/34#34", ("//qa.org/posts/34", "")),
        ("https://qa.org/questions/12/some-slug#34", ("//qa.org/posts/34", "")),
        ("https://qa.org/a/34/99", ("//qa.org/posts/34", "")),
        ("https://qa.org/q/12", ("//qa.org/posts/12", "")),
        ("http://[broken", ("http://[broken", "")),
    ],
)
def test_addresses(url: str, name: tuple[str, str]) -> None:
    assert addresses.split(url) == name


def test_clicks_are_joined_by_the_query(tmp_path: Path) -> None:
    def hit(**found: object) -> ScanHit:
        return ScanHit("x", "ubi", dict(found))

    def event(query: str, object_: object, action: str = "click") -> ScanHit:
        return hit(query_id=query, action_name=action, event_attributes={"object": {"object_id": object_}})

    queries = [hit(query_id=f"q{i}", user_query=words) for i, words in enumerate(["Write locks", "write  LOCKS!", "x"])]
    events = [event("q0", "a"), event("q1", "b"), event("q1", "b"), event("q2", "a", "impression"), event("q9", "a")]
    odd = [hit(query_id=3), hit(query_id="q0", action_name="click", event_attributes=[]), event("q0", {"no": "id"})]
    assert [asked(found) for found in odd] == [None, None, None]
    assert [clicked(found) for found in odd] == [None, None, None]
    assert clicked(events[3]) is None
    assert asked(queries[1]) == Asked("q1", "write LOCKS!")
    assert clicked(event("q0", 7)) == Clicked("q0", "7")
    found = together(
        (record for query in queries if (record := asked(query))), (r for e in events if (r := clicked(e)))
    )
    (origin,) = found
    assert origin == origin_of("WRITE locks")
    assert found[origin].objects == {"a": 1, "b": 2}

    documents = {name: plain(name) for name in "abc"} | {"d": plain("d")}
    base, drops = quarry(tmp_path, documents)
    ((seed,),) = click_seeds(found, base)
    assert [base.corpus.ids[aim.page] for aim in seed.targets] == ["b", "a"]
    assert seed.query in {"Write locks", "write LOCKS!"}
    assert seed.origin == origin
    by_url = {origin: type(found[origin])("w", {"https://site/c": 1, "gone": 4})}
    ((seed,),) = click_seeds(by_url, base)
    assert [base.corpus.ids[aim.page] for aim in seed.targets] == ["c"]
    assert drops == {"ubi.leads_out": 1}


def test_a_query_of_users_is_held_out_with_any_of_its_pages(tmp_path: Path) -> None:
    documents = {f"p{i}": plain(f"p{i}") for i in range(60)}
    base, _ = quarry(tmp_path, documents)
    by_split = {base.corpus.split_of(n): base.corpus.ids[n] for n in range(60)}
    found = together(
        iter([Asked("q", "some words")]),
        iter([Clicked("q", by_split[Split.TRAIN]), Clicked("q", by_split[Split.TEST])]),
    )
    ((seed,),) = click_seeds(found, base)
    assert seed.split is Split.TEST


def test_each_query_is_kept_once_and_caps_hold_whatever_the_order(tmp_path: Path) -> None:
    base, drops = quarry(tmp_path, {f"p{i}": plain(f"p{i}") for i in range(6)}, groups_per_source=5, queries_per_page=2)
    aim = (Target(0, 0),)
    offers = [
        [base.seed(Source.HEADING, f"words of {page} and {number}", page, aim) for number in range(4)]
        for page in range(6)
    ]
    chosen, backwards = Chosen(base.config, drops), Chosen(base.config, drops)
    for seeds in offers:
        chosen.offer(seeds)
    for seeds in reversed(offers):
        backwards.offer(reversed(seeds))
    assert chosen.seeds() == backwards.seeds()
    assert len(chosen.seeds()) == 5
    assert drops["heading.page_has_enough"] == 2 * 12
    again = f"{chosen.seeds()[0].query.upper()}!"
    chosen.offer([base.seed(Source.SENTENCE, again, 3, aim), base.seed(Source.SENTENCE, "one", 3, aim)])
    assert drops["sentence.query_again"] == 1
    assert drops["sentence.query_length"] == 1
    assert len(chosen.seeds()) == 5


def test_only_what_is_new_makes_queries(tmp_path: Path) -> None:
    documents = questions() | {"a": plain("a", links=[link("target", "how connections share one cache")])}
    base, _ = quarry(tmp_path, documents)
    old = base._replace(fresh=[False] * len(base.corpus))
    assert [seed for seeds in anchor_seeds(old) for seed in seeds] == []
    for number in range(len(base.corpus)):
        page = base.corpus.page(number)
        assert list(heading_seeds(page, number, old)) == []
        assert list(sentence_seeds(page, number, old)) == []
        assert list(question_seeds(page, number, old)) == []
    # A new answer makes an old question new, a new page its links
    new_answer = base._replace(fresh=[number == 3 for number in range(len(base.corpus))])
    assert list(question_seeds(base.corpus.page(0), 0, new_answer))
    new_page = base._replace(fresh=[id_ == "a" for id_ in base.corpus.ids])
    assert len([seed for seeds in anchor_seeds(new_page) for seed in seeds]) == 1
