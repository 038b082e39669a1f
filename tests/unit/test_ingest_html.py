"""Folders of HTML: what becomes of pages as they are found in the wild."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ingest import html as html_module
from ingest.documents import MAX_BODY_CHARS, Document, Link
from ingest.html import HtmlFolder, decode, parse


def page(content: str | bytes, url: str = "https://example.org/docs/a.html") -> Document:
    return parse(content.encode() if isinstance(content, str) else content, id="a.html", url=url, site="example.org")


def test_a_page_in_full() -> None:
    document = page(
        """<!doctype html><html lang="en-GB"><head><title>Sort  keys\n</title><style>p{}</style>
        <script>var hidden = "<p>no</p>";</script></head>
        <body><header>Site</header><nav><a href="/">Home</a></nav>
        <h1>Sorting</h1><p>Use <b>so</b>rt and <a href="b.html#keys">key
        functions</a>.</p><div><div><ul><li>one</li><li>two</li></ul></div></div>
        <h2>See</h2><pre>a = 1\n  b = 2</pre><p>last<br>line</p>
        <table><tr><td>x</td><td>y</td></tr></table><footer>Imprint</footer></body></html>"""
    )
    assert document.title == "Sort keys"
    assert document.body.split("\n") == [
        "Sorting", "Use sort and key functions.", "one", "two", "See", "a = 1", "b = 2", "last", "line", "x", "y",
    ]  # fmt: skip
    assert document.headings == ("Sorting", "See")
    assert document.links == (Link(url="https://example.org/docs/b.html#keys", anchor="key functions"),)
    assert document.language == "en-GB"


def test_places_that_links_can_name_are_lines_of_the_body() -> None:
    document = page(
        """<body id=all><p>intro</p><section id=one><span id=alias></span><h2>One</h2><p>first <a name=in>in</a></p>
        </section><a name="two"></a><h2>Two</h2><pre>x<b id=code>y</b>\nz</pre><dl><dt id="f.g">f</dt></dl>
        <h2 id=one>Again</h2><p id=end></p></body>"""
    )
    lines = document.body.split("\n")
    assert lines == ["intro", "One", "first in", "Two", "xy", "z", "f", "Again"]
    assert {fragment.id: lines[fragment.line] for fragment in document.fragments} == {
        "one": "One", "alias": "One", "in": "first in", "two": "Two", "code": "xy", "f.g": "f",
    }  # fmt: skip


def test_places_behind_the_end_of_a_cut_page_are_dropped() -> None:
    long = f"<p id=a>a</p><p>{'x' * MAX_BODY_CHARS}</p><p id=b>b</p>"
    assert [fragment.id for fragment in page(long).fragments] == ["a"]


def test_a_page_cannot_make_places_by_its_own_characters() -> None:
    document = page("<p id=a>one\x1d0\x1dtwo</p>")
    assert (document.body, [fragment.line for fragment in document.fragments]) == ("one0two", [0])


@pytest.mark.parametrize(
    ("html", "title"),
    [
        ("<title>The title</title><h1>Heading</h1>", "The title"),
        ("<title> \n </title><h1>The <i>heading</i></h1>", "The heading"),
        ("<p>Neither</p>", "some-page"),
        ("", "some-page"),
    ],
)
def test_titles(html: str, title: str) -> None:
    assert page(html, url="file:///tmp/some-page.html").title == title


def test_the_marked_main_part_is_taken_alone_where_there_is_one() -> None:
    assert page("<p>menu</p><main><p>text</p></main>").body == "text"
    assert page("<p>menu</p><div role=main>text</div>").body == "text"
    assert page("<p>intro</p><article>one</article><article>two</article>").body == "intro\none\ntwo"
    assert page("<p>text</p><main> </main>").body == "text"


def test_documentation_generators_chrome_is_dropped() -> None:
    document = page('<div class="navheader">Prev</div><h1>Title<a class="headerlink" href="#t">¶</a></h1><p>text</p>')
    assert document.body == "Title\ntext"
    assert document.headings == ("Title",)


@pytest.mark.parametrize(
    ("href", "url"),
    [
        ("c.html", "https://example.org/docs/c.html"),
        ("../x.html#y", "https://example.org/x.html#y"),
        ("#part", "https://example.org/docs/a.html#part"),
        ("https://other.example/z", "https://other.example/z"),
        ("javascript:alert(1)", None),
        ("mailto:a@example.org", None),
        ("http://[broken", None),
    ],
)
def test_links_are_absolute_or_left_out(href: str, url: str | None) -> None:
    links = page(f'<a href="{href}">words</a><a href="{href}"><img></a><a>no</a>').links
    assert links == ((Link(url=url, anchor="words"),) if url else ())


def test_links_follow_the_base_and_are_listed_once() -> None:
    document = page('<head><base href="../en/"></head><a href="p.html">w</a> <a href="p.html">w</a>')
    assert document.links == (Link(url="https://example.org/en/p.html", anchor="w"),)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("grün — 日本".encode(), "grün — 日本"),
        ("\ufeffgrün".encode(), "grün"),
        ("grün".encode("utf-16"), "grün"),
        ('<meta charset="ISO-8859-1">grün “x”'.encode("cp1252"), '<meta charset="ISO-8859-1">grün “x”'),
        ('<meta charset="koi8-r">привет'.encode("koi8-r"), '<meta charset="koi8-r">привет'),
        ("grün".encode("latin-1"), "grün"),
        (b'<meta charset="utf-8">gr\xfcn', '<meta charset="utf-8">gr\ufffdn'),
        (b'<meta charset="no-such">gr\xfcn', '<meta charset="no-such">gr\ufffdn'),
        (b'<meta charset="hex">gr\xfcn', '<meta charset="hex">gr\ufffdn'),
        (b"a\0b\x1ec", "abc"),
    ],
)
def test_encodings_true_false_and_broken(content: bytes, text: str) -> None:
    assert decode(content) == text


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"<", b"<html", b"<!--", b"<a href=", b"\xed\xa0\x80", bytes(range(256)), b"<frameset>"],
)
def test_anything_becomes_a_document(content: bytes) -> None:
    document = page(content)
    assert document.title
    document.body.encode()  # no lone surrogates: the engine would refuse the document


def test_huge_and_deep_pages() -> None:
    document = page("<p>word</p>" * (MAX_BODY_CHARS // 4))
    assert len(document.body) == MAX_BODY_CHARS
    assert page("<div>" * 3000 + "deep").body == "deep"


def test_the_hash_follows_the_content() -> None:
    assert page("<p>a").content_hash == page("<p>a").content_hash
    hashes = {page(html).content_hash for html in ("<p>a", "<p>b", "<title>t</title><p>a", "<p><a href='x'>a</a>")}
    assert len(hashes) == 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    (root / "sub" / "deeper").mkdir(parents=True)
    (root / "index.html").write_text("<title>Start</title>")
    (root / "sub" / "a b.HTM").write_text("<title>Spaced</title>")
    (root / "sub" / "deeper" / "c.xhtml").write_text("<title>Deep</title>")
    (root / "sub" / "notes.txt").write_text("not a page")
    return root


def test_a_folder_is_read_in_order_with_paths_as_ids(folder: Path) -> None:
    source = HtmlFolder(folder)
    documents = list(source.documents())
    assert [(d.id, d.title) for d in documents] == [
        ("index.html", "Start"),
        ("sub/a b.HTM", "Spaced"),
        ("sub/deeper/c.xhtml", "Deep"),
    ]
    assert documents[1].url == (folder / "sub" / "a b.HTM").as_uri()
    assert {d.site for d in documents} == {"site"}
    assert source.skipped == []
    assert list(HtmlFolder(folder).documents()) == documents


def test_a_published_folder_has_its_addresses(folder: Path) -> None:
    documents = list(HtmlFolder(folder, "https://docs.example.org/v1").documents())
    assert documents[1].url == "https://docs.example.org/v1/sub/a%20b.HTM"
    assert documents[1].site == "docs.example.org"


def test_nothing_outside_of_the_folder_is_read(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.html"
    secret.write_text("<title>secret</title>")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "o.html").write_text("<title>other</title>")
    (folder / "out.html").symlink_to(secret)
    (folder / "outfolder").symlink_to(tmp_path / "other")
    (folder / "circle").symlink_to(folder)
    (folder / "gone.html").symlink_to(folder / "nowhere.html")
    source = HtmlFolder(folder)
    assert {d.title for d in source.documents()} == {"Start", "Spaced", "Deep"}
    assert {s.name: s.reason for s in source.skipped} == {
        "gone.html": "No such file or directory",
        "out.html": "a link out of the folder",
    }


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "pipe.html")
    (folder / "huge.html").write_text("x" * 101)
    monkeypatch.setattr(html_module, "MAX_FILE_BYTES", 100)
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "index.html":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    source = HtmlFolder(folder)
    assert len(list(source.documents())) == 2
    assert {s.name: s.reason for s in source.skipped} == {
        "huge.html": "larger than 0 MiB",
        "index.html": "Permission denied",
        "pipe.html": "not a regular file",
    }


def test_file_names_that_are_no_text(folder: Path) -> None:
    with open(os.path.join(os.fsencode(folder), b"gr\xfcn.html"), "wb") as file:  # noqa: PTH118, PTH123
        file.write(b"<p>text</p>")
    (document,) = (d for d in HtmlFolder(folder).documents() if d.body == "text")
    assert document.id == "gr\\xfcn.html"
    assert document.url.endswith("/gr%FCn.html")
