"""Questions of a question-and-answer site: their answers, and what these link to, answer them."""

from __future__ import annotations

from collections.abc import Iterator

from training.mine.corpus import Corpus
from training.mine.pages import Page
from training.mine.seeds import MAX_QUERY_CHARS, Quarry, Seed, Target
from training.mine.words import is_code, squash
from training.records import Source

_BODY_WORDS = 40
"""Of the question's text behind its title, in the second form of its query."""


def question_seeds(page: Page, number: int, quarry: Quarry) -> Iterator[Seed]:
    """The title, and the title with the beginning of the text, ask for the same.

    Answers first (accepted, then by votes; those that were voted neither up nor chosen do not count), then the
    pages and questions that they and the question link to; of a question that is linked to, its best answer.
    """
    if page.post is None or page.post.kind != "question" or not page.title:
        return
    corpus = quarry.corpus
    beginning = _beginning(page)
    if not any(quarry.fresh[found] for found in (number, *corpus.answers.get(page.id, ()))):
        return
    answers = _answers(corpus, page.id)
    pages = answers + [linked for linked in _linked(page, answers, corpus) if linked not in {number, *answers}]
    targets = []
    for found in dict.fromkeys(pages):
        at = quarry.matcher.ranked(f"{page.title} {beginning}", found)[0]
        whole = corpus.page(found).pieces[at].text
        text = _without_title(whole, page.title)
        if len(text.split()) >= quarry.config.min_words:
            targets.append(Target(found, at, None if text == whole else text))
    if not targets:
        quarry.drop(Source.STACKEXCHANGE, "no_answer")
        return
    for query in dict.fromkeys((page.title, f"{page.title} {beginning}"[:MAX_QUERY_CHARS].strip())):
        yield quarry.seed(Source.STACKEXCHANGE, query, number, tuple(targets), (number,))


def _answers(corpus: Corpus, question: str) -> list[int]:
    """The answers that were accepted or voted up, best first."""
    rated = []
    for number in corpus.answers.get(question, ()):
        post = corpus.page(number).post
        if post is not None and (post.accepted or post.score > 0):
            rated.append((not post.accepted, -post.score, number))
    return [number for _, _, number in sorted(rated)]


def _linked(page: Page, answers: list[int], corpus: Corpus) -> Iterator[int]:
    posts = [corpus.page(number) for number in answers]
    urls = [link.url for post in posts for link in post.links]
    found = [place[0] for url in urls if (place := corpus.lookup(url)) is not None]
    if page.post is not None:
        found += [corpus.numbers[id_] for id_ in page.post.duplicates + page.post.linked if id_ in corpus.numbers]
    for number in found:
        post = corpus.page(number).post
        if post is None or post.kind != "question":
            yield number
        elif best := _answers(corpus, corpus.ids[number]):
            yield best[0]


def _without_title(text: str, title: str) -> str:
    """The text without lines that repeat the question: some answers begin with it."""
    asked = squash(title)
    return "\n".join(line for line in text.split("\n") if squash(line) != asked)


def _beginning(page: Page) -> str:
    """The first words of the question's text, without code."""
    lines = [line for line in page.pieces[0].text.split("\n") if not is_code(line)]
    return " ".join(" ".join(lines).split()[:_BODY_WORDS])
