"""Stack Exchange dumps: a small one made by hand, and hostile ones."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest

from ingest.documents import Link
from ingest.stackexchange import DumpError, StackExchange, rows
from whyrank.errors import BadRequestError

SITE = "cooking.stackexchange.com"


def dump(folder: Path, posts: list[dict[str, str]], links: list[dict[str, str]] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, found in (("Posts", posts), ("PostLinks", links or [])):
        lines = ["  <row " + " ".join(f"{k}={quoteattr(v)}" for k, v in row.items()) + " />" for row in found]
        head = '\ufeff<?xml version="1.0" encoding="utf-8"?>'
        text = "\n".join([head, f"<{name.lower()}>", *lines, f"</{name.lower()}>"])
        (folder / f"{name}.xml").write_text(text, encoding="utf-8")
    return folder


POSTS = [
    {"Id": "1", "PostTypeId": "1", "AcceptedAnswerId": "3", "Score": "5", "Title": "How long to boil an egg?",
     "Body": "<p>I want it <b>soft</b>.</p>\n<pre><code>boil(egg)</code></pre>", "Tags": "<eggs><boiling>"},
    {"Id": "2", "PostTypeId": "2", "ParentId": "1", "Score": "-1", "Body": "<p>An hour.</p>"},
    {"Id": "3", "PostTypeId": "2", "ParentId": "1", "Score": "9",
     "Body": '<p>Six minutes, see <a href="/questions/7/poaching">how to poach</a>.</p>'},
    {"Id": "4", "PostTypeId": "5", "Body": "a wiki"},
    {"Id": "7", "PostTypeId": "1", "Score": "0", "Title": "Poaching & <simmering>", "Body": "<p>How?</p>",
     "Tags": "|eggs|water|"},
    {"Id": "8", "PostTypeId": "2", "ParentId": "99", "Score": "2", "Body": "<p>Orphan.</p>"},
]  # fmt: skip
LINKS = [
    {"Id": "1", "PostId": "7", "RelatedPostId": "1", "LinkTypeId": "3"},
    {"Id": "2", "PostId": "7", "RelatedPostId": "10", "LinkTypeId": "1"},
    {"Id": "3", "PostId": "7", "RelatedPostId": "2", "LinkTypeId": "1"},
    {"Id": "4", "PostId": "7", "RelatedPostId": "2", "LinkTypeId": "1"},
]


def test_questions_and_answers_are_documents(tmp_path: Path) -> None:
    source = StackExchange(dump(tmp_path / SITE, POSTS, LINKS))
    found = {document.id.rpartition("/")[2]: document for document in source.documents()}
    assert list(found) == ["1", "2", "3", "7", "8"]
    assert source.total() == 5
    assert source.skipped == []
    question = found["1"]
    assert (question.id, question.url) == (f"{SITE}/1", f"https://{SITE}/questions/1")
    assert (question.title, question.body, question.site) == (
        "How long to boil an egg?",
        "I want it soft.\nboil(egg)",
        SITE,
    )
    assert question.post is not None
    assert (question.post.kind, question.post.score, question.post.tags) == ("question", 5, ("eggs", "boiling"))
    answer = found["3"]
    assert (answer.url, answer.title) == (f"https://{SITE}/a/3", "")
    assert answer.links == (Link(f"https://{SITE}/questions/7/poaching", "how to poach"),)
    assert answer.post is not None
    assert (answer.post.question, answer.post.parent) == ("How long to boil an egg?", f"{SITE}/1")
    assert (answer.post.accepted, answer.post.score) == (True, 9)
    assert found["2"].post is not None
    assert (found["2"].post.accepted, found["2"].post.score) == (False, -1)
    linked = found["7"].post
    assert linked is not None
    assert (linked.tags, found["7"].title) == (("eggs", "water"), "Poaching & <simmering>")
    assert (linked.duplicates, linked.linked) == ((f"{SITE}/1",), (f"{SITE}/2", f"{SITE}/10"))
    assert found["8"].post is not None
    assert found["8"].post.question is None


def test_posts_without_what_they_need_are_skipped_by_name(tmp_path: Path) -> None:
    posts = [
        {"Id": "1", "PostTypeId": "1", "Title": "No body"},
        {"Id": "x", "PostTypeId": "1", "Title": "t", "Body": "b"},
        {"Id": "3", "PostTypeId": "2", "Body": "no parent"},
        {"Id": "4", "PostTypeId": "1", "Title": "Whole", "Body": "<p>b</p>"},
    ]
    source = StackExchange(dump(tmp_path, posts), SITE)
    assert [document.title for document in source.documents()] == ["Whole"]
    assert [skipped.name for skipped in source.skipped] == ["post 1", "post x", "post 3"]
    assert source.skipped[0].reason == "no Body"


def test_the_site_is_the_folder_or_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match="site"):
        StackExchange(dump(tmp_path / "dump", POSTS))
    with pytest.raises(BadRequestError, match="site"):
        StackExchange(tmp_path / "dump", "https://cooking")


def test_entities_are_refused(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE p [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><posts><row Id="&b;"/></posts>'
    (tmp_path / "Posts.xml").write_text(bomb)
    with pytest.raises(DumpError, match="document type"):
        list(rows(tmp_path / "Posts.xml"))


@pytest.mark.parametrize("content", ["", "<posts><row Id='1'/>", "no xml", "<posts><row Id='1' Id='2'/></posts>"])
def test_what_is_no_xml_is_said(tmp_path: Path, content: str) -> None:
    (tmp_path / "Posts.xml").write_text(content)
    with pytest.raises(DumpError, match=r"Posts\.xml"):
        list(rows(tmp_path / "Posts.xml"))
    with pytest.raises(DumpError, match="cannot read"):
        list(rows(tmp_path / "none.xml"))


def test_memory_does_not_grow_with_the_dump(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        body = "<p>" + "word " * 1000 + "</p>"
        posts = [{"Id": str(i), "PostTypeId": "1", "Title": f"t{i}", "Body": body} for i in range(count)]
        source = StackExchange(dump(tmp_path / str(count), posts), SITE)
        tracemalloc.start()
        for _ in source.documents():
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(10)  # what is made once
    # The file's second half is as large as all of the smaller file, and adds nothing
    assert peak(3000) < 1.4 * peak(1500)
