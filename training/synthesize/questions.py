"""What the OpenAI teacher is asked, and how its answers are read (pure). The words are prompts/teacher.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from typing import Generic, Protocol, TypeVar

import msgspec

from training.records import Group, GroupPassage, Role
from training.synthesize import wording
from training.synthesize.checks import checked
from training.synthesize.soft_labels import DECIMALS
from whyrank.embedded.cache import digest
from whyrank.folding import fold
from whyrank.passages import estimate_tokens, head
from whyrank.prompt import LABEL_PATTERN, PROMPT_VERSION, QUERY_TOKENS, STOP, messages, neutralise
from whyrank.types import LabelProbabilities, Mode, Verdict
from whyrank.verdict import TokenLogprob, parse

_DATA_FILE = files("training") / "synthesize" / "prompts" / "teacher.toml"
_DATA = tomllib.loads(_DATA_FILE.read_text(encoding="utf-8"))

TEACHER_PROMPT_VERSION = sha256(_DATA_FILE.read_bytes() + PROMPT_VERSION.encode()).hexdigest()[:8]
"""Of the teacher's words and of the student's, which they extend."""

Messages = list[dict[str, str]]
Read_co = TypeVar("Read_co", covariant=True)

_DOCUMENT_TOKENS = 400
_DOCUMENTS = 4
_CHAT_TOKENS = 16
_MIN_QUERY_WORDS = 2
_NEAR = 0.7
"""Queries that share this much of their terms (Jaccard) are near-duplicates."""
_BULLET = re.compile(r"^\s*(?:[-*•]\s+|\(?\d{1,2}[.):]\s+|query\s*\d*\s*:\s*)", re.IGNORECASE)
_THOUGHTS = re.compile(r"^.*</think(?:ing)?>", re.DOTALL)


class PaidAnswer(msgspec.Struct, frozen=True):
    """One answer of the teacher, as it is kept in `answers.jsonl`: whatever it is worth, it was paid for."""

    key: str
    text: str
    probabilities: LabelProbabilities | None = None
    """Of the label, where the server told them: its tokens themselves are not kept."""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Question(Protocol, Generic[Read_co]):
    """One thing that is asked."""

    @property
    def teacher(self) -> str:
        """Who is asked."""
        ...

    @property
    def key(self) -> str:
        """Names the question over runs: the same words asked of the same teacher."""
        ...

    @property
    def about(self) -> tuple[str, str]:
        """Ids of group and passage, the latter empty where none is judged."""
        ...

    def messages(self) -> Messages:
        """The chat that asks it."""
        ...

    def probabilities(self, text: str, tokens: Sequence[TokenLogprob]) -> LabelProbabilities | None:
        """Those of the label that the answer ends with, None where there is no label or no tokens are given."""
        ...

    def read(self, answer: PaidAnswer) -> Read_co | str:
        """What the answer says, else the reason why it is rejected."""
        ...


class PairQuestion(msgspec.Struct, frozen=True):
    """Is this passage relevant to this query, and why?"""

    teacher: str
    group: str
    query: str
    passage: GroupPassage

    @property
    def key(self) -> str:
        """By what is read, not by ids: a pair that stands in two groups is judged once."""
        return digest(self.teacher, "pair", self.query, self.passage.text)

    @property
    def about(self) -> tuple[str, str]:
        """Ids of group and passage."""
        return self.group, self.passage.id

    def messages(self) -> Messages:
        """The student's own prompt, with more to its instruction."""
        chat = messages(self.query, self.passage.passage(), Mode.REASON)
        chat[0]["content"] += "\n\n" + _DATA["judge"]["extension"].strip()
        return chat

    def probabilities(self, text: str, tokens: Sequence[TokenLogprob]) -> LabelProbabilities | None:
        """Those of the label, from its token."""
        passage = self.passage.passage()
        found = parse(_conclusion(text), tokens, passage=passage, mode=Mode.REASON, model_revision=self.teacher)
        return found.label_probabilities if tokens and isinstance(found, Verdict) else None

    def read(self, answer: PaidAnswer) -> Verdict | str:
        """The verdict, its label certain where the server told no probabilities."""
        verdict = checked(_conclusion(answer.text), self.passage, self.teacher)
        if isinstance(verdict, str) or answer.probabilities is None:
            return verdict
        p0, p1, p2 = (round(p, DECIMALS) for p in answer.probabilities)
        return msgspec.structs.replace(verdict, label_probabilities=(p0, p1, p2), relevance=min(1.0, p1 / 2.0 + p2))


class QueriesQuestion(msgspec.Struct, frozen=True):
    """Which other queries need the documents of this group?"""

    teacher: str
    group: Group
    count: int

    @property
    def key(self) -> str:
        """By what is read."""
        return digest(self.teacher, "queries", str(self.count), *(chat["content"] for chat in self.messages()))

    @property
    def about(self) -> tuple[str, str]:
        """The group's id, and no passage."""
        return self.group.id, ""

    def messages(self) -> Messages:
        """The group's query, and what of its positive passages (the first ones, where none is known) is enough."""
        positives = [p for p in self.group.passages if p.role is Role.POSITIVE] or list(self.group.passages)
        shown = [neutralise(head(p.text, _DOCUMENT_TOKENS)).strip() for p in positives[:_DOCUMENTS]]
        words = _DATA["queries"]
        before, between, after = re.split(r"\{query\}|\{documents\}", words["user"].strip())
        asked = " ".join(neutralise(head(self.group.query, QUERY_TOKENS)).split())
        documents = "\n\n".join(shown)
        user = f"{before}{asked}{between}{documents}{after}"
        system = words["system"].strip().replace("{count}", str(self.count))
        return [{"role": "system", "content": system}, {"role": "user", "content": user}]

    def probabilities(self, text: str, tokens: Sequence[TokenLogprob]) -> LabelProbabilities | None:  # noqa: ARG002
        """None: queries have no label."""
        return None

    def read(self, answer: PaidAnswer) -> tuple[str, ...] | str:
        """The queries: one a line, no near-duplicates of each other or of the group's own."""
        lines = (_BULLET.sub("", line) for line in _THOUGHTS.sub("", answer.text).splitlines())
        found = unlike(self.group.query, [" ".join(line.strip(" \t\"'“”*`").split()) for line in lines])
        return tuple(found[: self.count]) or "no_queries"


def unlike(original: str, queries: Sequence[str]) -> list[str]:
    """The queries that are neither near-duplicates of the original or of one before them, nor too short or long."""
    kept: list[str] = []
    seen = [(fold(original).text, wording.content_stems(original))]
    for query in queries:
        folded, stems = fold(query).text, wording.content_stems(query)
        if len(folded.split()) < _MIN_QUERY_WORDS or estimate_tokens(query) > QUERY_TOKENS or query.endswith(":"):
            continue
        if any(folded == other or _jaccard(stems, of_other) >= _NEAR for other, of_other in seen):
            continue
        seen.append((folded, stems))
        kept.append(query)
    return kept


def prompt_tokens(messages: Messages) -> int:
    """Estimated, with what a chat's form adds."""
    return sum(estimate_tokens(chat["content"]) + _CHAT_TOKENS for chat in messages)


def _conclusion(text: str) -> str:
    """The answer without the thinking before it, and without what stands after the stop sequence of its label."""
    text = _THOUGHTS.sub("", text)
    label = LABEL_PATTERN.search(text)
    if label is None:
        return text
    return text[: label.end()] + text[label.end() :].split(STOP, 1)[0]


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / max(1, len(one | other))
