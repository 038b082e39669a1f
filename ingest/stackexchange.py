"""A Stack Exchange dump as documents: each question one, each answer one of its own.

The form of the dump is the site's own (Posts.xml, PostLinks.xml: a `row` element for each record, all in its
attributes). It is read as a stream by expat; a document type declaration, without which no entity can be
defined, is refused. What answers need of their questions, and questions of their links, goes through a database
in a temporary file, so that memory does not grow with the site.
"""

from __future__ import annotations

import re
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from ingest.documents import Document, Post, Skipped, make_document
from ingest.html import parse
from whyrank.errors import BadRequestError, WhyRankError

_CHUNK = 1 << 20
_QUESTION, _ANSWER = "1", "2"
"""PostTypeId; the others (wikis, moderators' posts) are no pages of the site."""
_LINKED, _DUPLICATE = "1", "3"
"""LinkTypeId of PostLinks.xml."""
_TAG = re.compile(r"[^<>|]+")
"""`<a><b>` in older dumps, `|a|b|` in newer ones."""
_HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")

Row = Mapping[str, str]


class DumpError(WhyRankError):
    """A file of the dump is missing, or is no such XML."""


class StackExchange:
    """Questions and answers of a dump's folder, in the order of Posts.xml.

    `site` is the host it was made of; by default the folder's name, where that is a host. A question's address is
    `https://<site>/questions/<number>`, an answer's `https://<site>/a/<number>`, ids are `<site>/<number>`. An answer
    has no title: its question's is in `post.question`, where searches do not find it.
    """

    def __init__(self, folder: Path, site: str | None = None) -> None:
        self._folder = folder
        self._site = (site or folder.resolve().name).lower()
        if not _HOST.fullmatch(self._site):
            raise BadRequestError("site", f"{self._site!r} is no host; give the site, as `cooking.stackexchange.com`")
        self.skipped: list[Skipped] = []

    def total(self) -> int:
        """Number of questions and answers."""
        return sum(1 for row in rows(self._folder / "Posts.xml") if row.get("PostTypeId") in {_QUESTION, _ANSWER})

    def documents(self) -> Iterator[Document]:
        """Read the dump. Raises DumpError."""
        with tempfile.TemporaryDirectory() as scratch, closing(sqlite3.connect(Path(scratch, "dump.db"))) as database:
            self._remember(database)
            for row in rows(self._folder / "Posts.xml"):
                if row.get("PostTypeId") not in {_QUESTION, _ANSWER}:
                    continue
                try:
                    yield self._document(row, database)
                except KeyError as error:
                    self.skipped.append(Skipped(name=f"post {row.get('Id')}", reason=f"no {error.args[0]}"))
                except ValueError as error:
                    self.skipped.append(Skipped(name=f"post {row.get('Id')}", reason=str(error)))

    def _remember(self, database: sqlite3.Connection) -> None:
        """Titles and accepted answers of questions, and links between posts."""
        database.execute("PRAGMA synchronous = OFF")
        database.execute("CREATE TABLE question (number TEXT PRIMARY KEY, title TEXT, accepted TEXT) WITHOUT ROWID")
        database.execute("CREATE TABLE link (source TEXT, kind TEXT, target TEXT)")
        questions = (row for row in rows(self._folder / "Posts.xml") if row.get("PostTypeId") == _QUESTION)
        database.executemany(
            "INSERT OR REPLACE INTO question VALUES (?, ?, ?)",
            ((row.get("Id"), row.get("Title"), row.get("AcceptedAnswerId")) for row in questions),
        )
        links = self._folder / "PostLinks.xml"
        if links.exists():
            database.executemany(
                "INSERT INTO link VALUES (?, ?, ?)",
                ((row.get("PostId"), row.get("LinkTypeId"), row.get("RelatedPostId")) for row in rows(links)),
            )
        database.execute("CREATE INDEX by_source ON link (source)")

    def _document(self, row: Row, database: sqlite3.Connection) -> Document:
        number = str(int(row["Id"]))
        answer = row["PostTypeId"] == _ANSWER
        url = f"https://{self._site}/{'a' if answer else 'questions'}/{number}"
        content = parse(row["Body"].encode("utf-8", "replace"), id=number, url=url, site=self._site)
        return make_document(
            id=self._id(number),
            url=url,
            title="" if answer else row["Title"],
            body=content.body,
            site=self._site,
            headings=content.headings,
            links=content.links,
            post=self._answer(row, number, database) if answer else self._question(row, number, database),
        )

    def _question(self, row: Row, number: str, database: sqlite3.Connection) -> Post:
        query = "SELECT DISTINCT kind, target FROM link WHERE source = ? ORDER BY CAST(target AS INTEGER)"
        links = database.execute(query, (number,)).fetchall()
        return Post(
            kind="question",
            score=int(row.get("Score", "0")),
            tags=tuple(_TAG.findall(row.get("Tags", ""))),
            linked=tuple(self._id(target) for kind, target in links if kind == _LINKED),
            duplicates=tuple(self._id(target) for kind, target in links if kind == _DUPLICATE),
        )

    def _answer(self, row: Row, number: str, database: sqlite3.Connection) -> Post:
        parent = str(int(row["ParentId"]))
        query = "SELECT title, accepted FROM question WHERE number = ?"
        title, accepted = database.execute(query, (parent,)).fetchone() or (None, None)
        return Post(
            kind="answer",
            score=int(row.get("Score", "0")),
            question=title,
            parent=self._id(parent),
            accepted=accepted == number,
        )

    def _id(self, number: str) -> str:
        return f"{self._site}/{number}"


def rows(path: Path) -> Iterator[Row]:
    """The attributes of each `row` element, one after the other. Raises DumpError."""
    found: list[Row] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if name == "row":
            found.append(attributes)

    def refuse(*_: object) -> NoReturn:
        raise DumpError(f"{path}: a document type declaration, which no dump has")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = refuse
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                parser.Parse(chunk, False)
                yield from found
                found.clear()
            parser.Parse(b"", True)
        yield from found
    except expat.ExpatError as error:
        raise DumpError(f"{path}: {error}") from error
    except OSError as error:
        raise DumpError(f"cannot read {path}: {error.strerror}") from error
