"""Any folder of HTML as documents."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

from selectolax.lexbor import LexborHTMLParser, LexborNode

from ingest.documents import Document, Fragment, Link, Skipped, make_document

MAX_FILE_BYTES = 32 * 1024 * 1024
"""Larger files are skipped: a page of this size is a data dump."""

_SUFFIXES = frozenset({".html", ".htm", ".xhtml"})
_NOT_CONTENT = ", ".join(
    (
        "script, style, noscript, template, svg, iframe, button, select, dialog",
        "nav, header, footer, [role=navigation], [role=search], [role=banner], [role=contentinfo], [hidden]",
        # Navigation of documentation generators that do not mark it up as such: DocBook, Sphinx, Doxygen.
        ".navheader, .navfooter, .sphinxsidebar, .related, .headerlink, #nav-path, #side-nav",
    )
)
_MAIN = ("main", "[role=main]", "article")
_BLOCKS = (
    "address, article, aside, blockquote, br, caption, dd, details, div, dl, dt, fieldset, figcaption, figure, form, "
    "h1, h2, h3, h4, h5, h6, hr, li, ol, p, section, summary, table, td, th, tr, ul"
)
_MARK = "\x1e"
"""Record separator: stands for the edge of a block, and is therefore dropped from what is read."""
_PLACE = "\x1d"
"""Group separator: stands, on both sides of a number, for a place that links can name; dropped as well."""
_PLACES = re.compile(f"{_PLACE}([0-9]+){_PLACE}")
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


class HtmlFolder:
    """The HTML files under a folder, in the order of their names.

    `base_url` is where the folder is published; without it, addresses are `file:` ones. `site` is by default the
    host of that, or the folder's name. `choose` takes of all paths those that are wanted. What cannot be read is
    skipped and kept in `skipped`. Links that lead out of the folder are not followed, folders that are links
    neither (they could go in circles).
    """

    def __init__(
        self,
        root: Path,
        base_url: str | None = None,
        *,
        site: str | None = None,
        choose: Callable[[Sequence[Path]], list[Path]] | None = None,
    ) -> None:
        self._root = root.resolve()
        self._base = base_url.rstrip("/") + "/" if base_url else self._root.as_uri() + "/"
        self._choose = choose
        self._site = site or (urlsplit(base_url).hostname if base_url else None) or self._root.name or "files"
        self.skipped: list[Skipped] = []

    def paths(self) -> list[Path]:
        """The files, relative to the folder. Cheap beside reading them."""
        found = []
        for folder, subfolders, names in os.walk(self._root, onerror=self._unlistable):
            subfolders.sort()
            found += [
                path.relative_to(self._root)
                for path in (Path(folder, name) for name in names)
                if path.suffix.lower() in _SUFFIXES
            ]
        found.sort()
        return self._choose(found) if self._choose else found

    def documents(self) -> Iterator[Document]:
        """Read the files one after the other; memory holds one."""
        for path in self.paths():
            try:
                self._refuse_odd(path)
                content = (self._root / path).read_bytes()
            except OSError as error:
                self._skip(path, error.strerror or str(error))
            else:
                yield self._document(path, content)

    def _refuse_odd(self, path: Path) -> None:
        full = self._root / path
        if not full.resolve(strict=True).is_relative_to(self._root):
            raise OSError("a link out of the folder")
        if not full.is_file():
            raise OSError("not a regular file")
        if full.stat().st_size > MAX_FILE_BYTES:
            raise OSError(f"larger than {MAX_FILE_BYTES >> 20} MiB")

    def _document(self, path: Path, content: bytes) -> Document:
        name = os.fsencode(path.as_posix())
        id_ = name.decode("utf-8", "backslashreplace")
        return parse(content, id=id_, url=self._base + quote(name), site=self._site)

    def _skip(self, path: Path | str, reason: str) -> None:
        name = os.fsencode(path).decode("utf-8", "backslashreplace")
        self.skipped.append(Skipped(name=name, reason=reason))

    def _unlistable(self, error: OSError) -> None:
        self._skip(error.filename, error.strerror or str(error))


def parse(content: bytes, *, id: str, url: str, site: str) -> Document:
    """One page of HTML. Never fails: what is no HTML at all becomes a document of its characters."""
    tree = LexborHTMLParser(decode(content))
    root = tree.root
    html = tree.css_first("html")
    language = (html.attributes.get("lang") or "").strip()[:35] or None if html is not None else None
    title = _text_of(tree.css_first("head title"))
    first_heading = _text_of(tree.css_first("h1"))
    base = tree.css_first("base[href]")
    base_url = _join(url, base.attributes.get("href") or "") or url if base is not None else url
    main = _main(tree)
    if root is None or main is None:
        return make_document(id=id, url=url, title=_file_title(url), body="", site=site)
    headings = tuple(filter(None, map(_text_of, main.css("h1, h2, h3, h4"))))
    links = tuple(dict.fromkeys(_links(main, base_url)))
    body, fragments = _block_text(main)
    return make_document(
        id=id,
        url=url,
        title=title or first_heading or _file_title(url),
        headings=headings,
        links=links,
        fragments=fragments,
        body=body,
        site=site,
        language=language,
    )


def decode(content: bytes) -> str:
    """The text, by byte order mark, UTF-8, declared charset or Windows-1252, whichever fits first.

    Bytes that the encoding does not know become U+FFFD; control characters that stand for nothing are dropped.
    """
    return _decode(content).replace("\0", "").replace(_MARK, "").replace(_PLACE, "")


def _decode(content: bytes) -> str:
    for bom, encoding in _BOMS:
        if content.startswith(bom):
            return content[len(bom) :].decode(encoding, "replace")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        declared = _CHARSET.search(content[:4096])
    encoding = declared[1].decode("ascii").lower() if declared else "windows-1252"
    if encoding in {"iso-8859-1", "latin-1", "latin1", "us-ascii", "ascii"}:
        encoding = "windows-1252"  # as browsers do
    try:
        return content.decode(encoding, "replace")
    except (LookupError, ValueError):  # unknown, or no text encoding at all ("hex")
        return content.decode("utf-8", "replace")


def _main(tree: LexborHTMLParser) -> LexborNode | None:
    """The part with the content, without navigation; the whole body where none is marked."""
    body = tree.body or tree.root
    if body is None:
        return None
    for node in body.css(_NOT_CONTENT):
        node.decompose()
    for selector in _MAIN:
        nodes = body.css(selector)
        # Several articles are a list of teasers, none of which is the page.
        if len(nodes) == 1 and nodes[0].text(strip=True):
            return nodes[0]
    return body


def _block_text(main: LexborNode) -> tuple[str, tuple[Fragment, ...]]:
    """The text with one block a line, inline elements joined as they are read, and its places. Changes the tree.

    Marks are set into the tree and the text is taken in one call: a walk node by node costs far more.
    """
    names: list[str] = []
    for node in main.css("[id], a[name]"):
        if name := node.attributes.get("id") or node.attributes.get("name"):
            node.insert_before(f"{_PLACE}{len(names)}{_PLACE}")
            names.append(name)
    for pre in main.css("pre"):
        pre.replace_with(_MARK + pre.text(deep=True).replace("\n", _MARK) + _MARK)
    for block in main.css(_BLOCKS):
        block.insert_before(_MARK)
        block.insert_after(_MARK)
    lines: list[str] = []
    fragments: dict[str, Fragment] = {}
    for block_text in main.text(deep=True).split(_MARK):
        line = block_text
        if _PLACE in line:
            for number in _PLACES.findall(line):
                # Of an id that stands twice, browsers take the first
                fragments.setdefault(names[int(number)], Fragment(names[int(number)], len(lines)))
            line = _PLACES.sub("", line)
        if line := " ".join(line.split()):
            lines.append(line)
    return "\n".join(lines), tuple(fragment for fragment in fragments.values() if fragment.line < len(lines))


def _links(main: LexborNode, base_url: str) -> Iterator[Link]:
    for node in main.css("a[href]"):
        anchor = _text_of(node)
        # Most links of a page lead to few pages: all but the fragment is resolved once.
        page, hash_, fragment = (node.attributes.get("href") or "").strip().partition("#")
        url = _join(base_url, page)
        if anchor and url:
            yield Link(url=url.partition("#")[0] + hash_ + fragment, anchor=anchor)


@lru_cache(maxsize=4096)
def _join(base: str, href: str) -> str | None:
    try:
        url = urljoin(base, href)
        scheme = urlsplit(url).scheme
    except ValueError:  # such as an unclosed bracket in the host
        return None
    return url if scheme in {"http", "https", "file"} else None


def _text_of(node: LexborNode | None) -> str:
    return " ".join(node.text(deep=True).split()) if node is not None else ""


def _file_title(url: str) -> str:
    return Path(urlsplit(url).path).stem or url
