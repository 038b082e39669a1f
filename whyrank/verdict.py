"""From the model's answer to a verdict (pure and total).

Any text with any token probabilities gives a `Verdict` or a named `VerdictFailure`; an answer that cannot be
read is never label 0.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Sequence
from itertools import accumulate

import msgspec

from whyrank.folding import STAND_INS, visible
from whyrank.grounding import ground
from whyrank.prompt import BARE_LABEL_PATTERN, LABEL_PATTERN, STOP
from whyrank.types import FailureKind, LabelProbabilities, Mode, Passage, Verdict, VerdictFailure

MAX_EXPLANATION_CHARS = 4_000
MASKED = -9999.0
"""Log probability of a token that the grammar forbids, as vLLM reports it."""

_LABELS = ("0", "1", "2")
_LABEL_TOKEN = re.compile(r"[\s*:]*([012])[\s*.#]*")
_WORD = re.compile(r"\w")
_RESTORED = str.maketrans({stand_in: char for char, stand_in in STAND_INS.items()})
_DETAIL_CHARS = 80


class TokenLogprob(msgspec.Struct, frozen=True):
    """One token of the answer; `top` gives the likeliest tokens in its place (itself among them)."""

    token: str
    top: dict[str, float]


def parse(
    text: str, tokens: Sequence[TokenLogprob] | None, *, passage: Passage, mode: Mode, model_revision: str
) -> Verdict | VerdictFailure:
    """Read the model's answer on a pair. Never raises.

    The label is that of the last `Relevance Label: N` (in mode `label` also a bare digit). Its probabilities
    are read at the token that carries it, from `tokens` in the answer's order, and sum to 1 over the three
    labels. Where the server gives none, the label has probability 1: hits of one label then keep the engine's
    order among themselves, as in the paper.
    """
    if not text.strip():
        return VerdictFailure(FailureKind.EMPTY)
    found = _label(text, mode)
    if found is None:
        return VerdictFailure(FailureKind.NO_LABEL, _excerpt(text[-_DETAIL_CHARS:]))
    if found[1] not in _LABELS:
        return VerdictFailure(FailureKind.BAD_LABEL, _excerpt(found[1][:_DETAIL_CHARS]))
    explanation = _explanation(text[: found.start()]) if mode is Mode.REASON else ""
    if mode is Mode.REASON and not _WORD.search(explanation):
        return VerdictFailure(FailureKind.NO_EXPLANATION, _excerpt(text[:_DETAIL_CHARS]))
    label = int(found[1])
    probabilities = _probabilities(text, found, mode, tokens or ()) or _certain(label)
    # Half a surrogate pair cannot be sent to Redis; the substitute has the same length
    quotes = ground(explanation, passage.text.encode("utf-8", "replace").decode("utf-8"))
    return Verdict(
        label=label,
        label_probabilities=probabilities,
        relevance=min(1.0, (probabilities[1] + 2.0 * probabilities[2]) / 2.0),
        explanation=explanation,
        quotes=quotes,
        grounded=bool(quotes) and all(quote.grounded for quote in quotes),
        mode=mode,
        model_revision=model_revision,
        truncated=passage.truncated,
    )


def _label(text: str, mode: Mode) -> re.Match[str] | None:
    """The match whose group 1 is the answer's label."""
    matches = deque(LABEL_PATTERN.finditer(text), maxlen=1)
    if matches:
        return matches[0]
    return BARE_LABEL_PATTERN.match(text) if mode is Mode.LABEL else None


def _explanation(text: str) -> str:
    """The explanation as plain text: no controls, no stop sequence, neutralised characters as the document has them."""
    text = visible(text).replace(STOP, "").translate(_RESTORED)
    lines = (" ".join(line.split()) for line in text.split("\n"))
    text = "\n".join(line for line in lines if line)
    if len(text) > MAX_EXPLANATION_CHARS:
        text = text[: MAX_EXPLANATION_CHARS - 1].rstrip() + "…"
    return text


def _excerpt(text: str) -> str:
    return " ".join(visible(text).split())


def _certain(label: int) -> LabelProbabilities:
    return (float(label == 0), float(label == 1), float(label == 2))


def _probabilities(
    text: str, found: re.Match[str], mode: Mode, tokens: Sequence[TokenLogprob]
) -> LabelProbabilities | None:
    """P(label) at the label's own token, None where the tokens do not tell."""
    ends = list(accumulate(len(token.token) for token in tokens))
    answer = "".join(token.token for token in tokens)
    offset = _offset(text, found, mode, answer)
    if offset is None:
        return None
    index = next(i for i, end in enumerate(ends) if end > offset)
    own = tokens[index]
    before = own.token[: offset - ends[index] + len(own.token)]
    likelihoods: dict[str, list[float]] = {label: [] for label in _LABELS}
    for alternative, logprob in own.top.items():
        label = _LABEL_TOKEN.fullmatch(alternative.removeprefix(before))
        if label and math.isfinite(logprob) and logprob > MASKED:
            likelihoods[label[1]].append(logprob)
    highest = max((max(each) for each in likelihoods.values() if each), default=None)
    if highest is None:
        return None
    # Relative to the likeliest, so that the sum is never zero
    p0, p1, p2 = (sum(math.exp(logprob - highest) for logprob in likelihoods[label]) for label in _LABELS)
    total = p0 + p1 + p2
    return p0 / total, p1 / total, p2 / total


def _offset(text: str, found: re.Match[str], mode: Mode, answer: str) -> int | None:
    """Where the label's digit is in the tokens' text, which may go on where `text` was stripped or stopped.

    Tokens that hold parts of a character do not add up to the text either; then the label is sought in them.
    """
    shift = answer.find(text)
    if shift >= 0:
        return shift + found.start(1)
    again = _label(answer, mode)
    return again.start(1) if again and again[1] == found[1] else None
