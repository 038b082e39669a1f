"""A page cut into the passages that groups rank (pure).

A passage is what `whyrank.passages.fit` would make of a short document of the same title: the title, and below it
a stretch of the body that fits the token budget whole. Cuts are made before headings, else between blocks, else
between sentences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from training.mine.words import sentences
from whyrank.passages import estimate_tokens, fit, head
from whyrank.types import Candidate, Fragment, Passage

_SMALL_SHARE = 3
"""A section of less than a third of the budget is joined with what follows it."""
_TITLE_SHARE = 4
"""A title of more than a quarter of the budget is not kept whole by `fit`; passages then get what room it leaves."""


class Piece(msgspec.Struct, frozen=True):
    """A stretch of a page's body: a passage without its title."""

    text: str
    """Blocks, one a line."""
    line: int
    """The first of its lines in the page's body."""
    headings: tuple[str, ...] = ()
    """Of the sections that begin in it, in order; each stands in the text on a line of its own."""
    under: str = ""
    """The heading that its first line stands under, its own included."""


class _Line(msgspec.Struct, frozen=True):
    text: str
    number: int
    heading: bool
    tokens: int


def _line(text: str, number: int, heading: bool = False) -> _Line:
    return _Line(text, number, heading, estimate_tokens(text) + 1)  # and the end of the line


def passage(title: str, text: str, budget: int) -> Passage:
    """As the model reads it at serving."""
    fields = tuple(Fragment(name, value) for name, value in (("title", title), ("body", text)) if value)
    return fit(Candidate(id="", index="", fields=fields, content_hash=""), budget, None)


def cut(title: str, body: str, headings: Sequence[str], budget: int) -> list[Piece]:
    """The pieces of a page, in order; together they hold all its text. `budget` is that of the whole passage."""
    title_tokens = estimate_tokens(title) + 1 if title else 0
    room = budget - (title_tokens if title_tokens <= budget // _TITLE_SHARE else budget // _TITLE_SHARE)
    lines = _lines(body, headings)
    pieces: list[Piece] = []
    open_lines: list[_Line] = []
    size = 0
    under = ""
    for section in _sections(lines):
        tokens = sum(line.tokens for line in section)
        if open_lines and (size + tokens > room or size * _SMALL_SHARE >= room):
            pieces.append(_piece(open_lines, under))
            under = _last_heading(open_lines, under)
            open_lines, size = [], 0
        if tokens <= room:
            open_lines, size = open_lines + section, size + tokens
            continue
        for part in _parts(section, tokens, room):
            pieces.append(_piece(part, under))
            under = _last_heading(part, under)
    if open_lines:
        pieces.append(_piece(open_lines, under))
    return pieces


def piece_at(pieces: Sequence[Piece], line: int) -> int:
    """The number of the piece that holds this line of the body. `pieces` must not be empty.

    Of a line too long for one piece it is the first that the line opens; its first words may close the one before.
    """
    found = 0
    for number, piece in enumerate(pieces):
        if piece.line > line:
            break
        found = number
        if piece.line == line:  # a long line makes several pieces: the first has its beginning
            break
    return found


def _piece(lines: Sequence[_Line], under: str) -> Piece:
    headings = tuple(line.text for line in lines if line.heading)
    own = lines[0].text if lines[0].heading else under
    return Piece("\n".join(line.text for line in lines), lines[0].number, headings, own)


def _last_heading(lines: Sequence[_Line], before: str) -> str:
    return next((line.text for line in reversed(lines) if line.heading), before)


def _lines(body: str, headings: Sequence[str]) -> list[_Line]:
    """The body's lines, those that are headings marked.

    From the end: where a table of contents repeats the headings, it is above them.
    """
    texts = body.split("\n")
    marked: set[int] = set()
    below = len(texts)
    last = {text: [] for text in headings}  # type: dict[str, list[int]]
    for number, text in enumerate(texts):
        if text in last:
            last[text].append(number)
    for heading in reversed(headings):
        places = last[heading]
        while places and places[-1] >= below:
            places.pop()
        if places:
            below = places[-1]
            marked.add(below)
    return [_line(text, number, number in marked) for number, text in enumerate(texts) if text.strip()]


def _sections(lines: Sequence[_Line]) -> Iterator[list[_Line]]:
    section: list[_Line] = []
    for line in lines:
        if line.heading and section:
            yield section
            section = []
        section.append(line)
    if section:
        yield section


def _parts(section: Sequence[_Line], tokens: int, room: int) -> Iterator[list[_Line]]:
    """A section that is too long, in parts of about one size."""
    wanted = tokens / -(-tokens // room)
    part: list[_Line] = []
    size = 0
    for line in _short_lines(section, room):
        # A heading does not end a part: it belongs to what is below
        if part and (size + line.tokens > room or (size >= wanted and not part[-1].heading)):
            yield part
            part, size = [], 0
        part.append(line)
        size += line.tokens
    yield part


def _short_lines(lines: Sequence[_Line], room: int) -> Iterator[_Line]:
    """The lines, those that exceed the room cut between sentences, else between words."""
    for line in lines:
        if line.tokens <= room:
            yield line
            continue
        open_text = ""
        for sentence in sentences(line.text):
            longer = f"{open_text} {sentence}" if open_text else sentence
            if open_text and estimate_tokens(longer) >= room:
                yield _line(open_text, line.number)
                longer = sentence
            while estimate_tokens(longer) >= room:
                beginning = head(longer, room - 1) or longer[:1]
                yield _line(beginning, line.number)
                longer = longer[len(beginning) :].strip()
            open_text = longer
        if open_text:
            yield _line(open_text, line.number)
