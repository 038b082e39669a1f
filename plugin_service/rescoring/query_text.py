"""The user's words, found in the query DSL of OpenSearch and Elasticsearch.

Which clauses count: those that score. Text in filters is used only where no scoring clause has any,
text of `must_not` and `negative` never. Values of `term`, `terms`, `prefix`, `wildcard` and the like
are an application's, not a user's, and are not read. The same words asked of several fields count
once, words that stand within longer ones are left out, and what remains is joined in order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

_MAX_TEXTS = 64

Nodes = Iterable[tuple[object, bool]]
"""Texts and further clauses in order, each with whether it scores."""
_Reader = Callable[[dict[str, object]], Nodes]


def extract(query: object) -> str | None:
    """The user's words in a query, a retriever, or a search body's {"query", "retriever", "knn"}.

    `query` is parsed JSON of any shape; None where there are no words. Never raises, never recurses.
    """
    scoring: list[str] = []
    filtering: list[str] = []
    stack: list[tuple[object, bool]] = [(query, True)]
    while stack:
        node, scores = stack.pop()
        if isinstance(node, str):
            (scoring if scores else filtering).append(" ".join(node.split()))
        elif isinstance(node, list):
            stack.extend((item, scores) for item in reversed(node))
        elif isinstance(node, dict):
            children = [child for name, body in node.items() for child in _expand(name, body)]
            stack.extend((child, scores and child_scores) for child, child_scores in reversed(children))
    return _join(scoring) or _join(filtering) or None


def from_query_string(text: str) -> str | None:
    """The user's words in the syntax of `query_string` and of the URL's `q`."""
    return extract({"query_string": {"query": text}})


def _expand(name: object, body: object) -> Nodes:
    """What stands below one clause, by its name."""
    if name in {"query", "retriever"}:
        return [(body, True)]
    reader = _READERS.get(name) if isinstance(name, str) else None
    if reader is None:
        return []
    bodies = body if isinstance(body, list) else [body]
    return [node for each in bodies if isinstance(each, dict) for node in reader(each)]


def _by_field(key: str) -> _Reader:
    """Clauses such as `{field: "text"}` or `{field: {key: "text"}}`."""

    def read(body: dict[str, object]) -> Nodes:
        for spec in body.values():
            text = spec.get(key) if isinstance(spec, dict) else spec
            if isinstance(text, str):
                yield text, True

    return read


def _below(*keys: str, filters: tuple[str, ...] = ()) -> _Reader:
    """Clauses that hold a text, a clause, or a list of either below each key."""

    def read(body: dict[str, object]) -> Nodes:
        yield from ((body[key], True) for key in keys if key in body)
        yield from ((body[key], False) for key in filters if key in body)

    return read


def _in_syntax(syntax: re.Pattern[str]) -> _Reader:
    def read(body: dict[str, object]) -> Nodes:
        text = body.get("query")
        if isinstance(text, str):
            yield _words(syntax, text), True

    return read


def _knn(body: dict[str, object]) -> Nodes:
    builder = body.get("query_vector_builder")
    for embedding in builder.values() if isinstance(builder, dict) else ():
        if isinstance(embedding, dict) and isinstance(embedding.get("model_text"), str):
            yield embedding["model_text"], True
    yield body.get("filter"), False


def _reranker(body: dict[str, object]) -> Nodes:
    """`inference_text` is what the caller wants documents to be judged by."""
    yield body.get("inference_text") or body.get("retriever"), True


def _intervals(body: dict[str, object]) -> Nodes:
    """The texts of `match` rules, within `all_of` and `any_of` to any depth."""
    stack = list(body.values())[::-1]
    while stack:
        rule = stack.pop()
        if not isinstance(rule, dict):
            continue
        match = rule.get("match")
        if isinstance(match, dict) and isinstance(match.get("query"), str):
            yield match["query"], True
        for name in ("any_of", "all_of"):
            group = rule.get(name)
            rules = group.get("intervals") if isinstance(group, dict) else None
            stack.extend(reversed(rules) if isinstance(rules, list) else ())


def _join(texts: list[str]) -> str:
    """Distinct texts in order, without those whose words stand within another."""
    distinct: dict[str, str] = {}
    for text in texts:
        if text and len(distinct) < _MAX_TEXTS:
            distinct.setdefault(f" {text.casefold()} ", text)
    return " ".join(
        text for folded, text in distinct.items() if not any(folded != other and folded in other for other in distinct)
    )


_PHRASE = r'"(?P<phrase>(?:\\.|[^"\\])*)"?(?:[~^][\d.]*)*'
_GROUP = r"(?P<open>\()|(?P<close>\))(?:[~^][\d.]*)*"
_QUERY_STRING = re.compile(
    rf"""{_PHRASE}|{_GROUP}
    |(?P<skip>[\[{{][^\[\]{{}}]*[\]}}]?(?:\^[\d.]*)?|/(?:\\.|[^/\\])*/|[<>]=?[^\s()]*)
    |(?P<not>NOT(?=[\s(])|[-!](?=[^\s)]))
    |(?P<and>(?:AND|OR)(?=[\s()]|$)|&&|\|\||[-+!&|](?!\w))
    |(?P<field>(?:\\.|[^\s()"\[\]{{}}:\\])+):
    |\+?(?P<word>(?:\\.|[^\s()"\[\]{{}}:\\])+)
    """,
    re.VERBOSE | re.DOTALL,
)
_SIMPLE_QUERY_STRING = re.compile(
    rf"""{_PHRASE}|{_GROUP}
    |(?P<not>-(?=[^\s)]))
    |(?P<and>[-+|])
    |(?P<word>(?:\\.|[^\s()"|\\])+)
    """,
    re.VERBOSE | re.DOTALL,
)
_SUFFIX = re.compile(r"(?:\*|[~^][\d.]*)+$")
_UNESCAPE = re.compile(r"\\(.)", re.DOTALL)


def _words(syntax: re.Pattern[str], text: str) -> str:
    """The words of a query in one of the two syntaxes, without operators and what they exclude."""
    words: list[str] = []
    excluding = False  # the next clause is excluded
    depth, excluded_depth = 0, 0  # open groups; the depth at which an excluded group began
    for token in syntax.finditer(text):
        kind = token.lastgroup
        if kind == "open":
            depth += 1
            if excluding and not excluded_depth:
                excluded_depth = depth
            excluding = False
        elif kind == "close":
            if depth == excluded_depth:
                excluded_depth = 0
            depth = max(0, depth - 1)
        elif kind == "not":
            excluding = True
        elif kind == "field":
            excluding = excluding or token["field"].endswith("_exists_")
        elif kind in {"word", "phrase", "skip"}:
            if kind != "skip" and not excluding and not excluded_depth:
                words.append(_plain(token[kind], kind))
            excluding = False
    return " ".join(filter(None, words))


def _plain(text: str, kind: str) -> str:
    if kind == "word":
        text = _SUFFIX.sub("", text)
    text = _UNESCAPE.sub(r"\1", text)
    return text if any(character.isalnum() for character in text) else ""


_READERS: dict[str, _Reader] = {
    **dict.fromkeys(("match", "match_phrase", "match_phrase_prefix", "match_bool_prefix"), _by_field("query")),
    **dict.fromkeys(("neural", "neural_sparse"), _by_field("query_text")),
    "text_expansion": _by_field("model_text"),
    "span_term": _by_field("value"),
    **dict.fromkeys(("multi_match", "combined_fields", "semantic", "sparse_vector"), _below("query")),
    **dict.fromkeys(("function_score", "script_score", "nested", "has_child", "has_parent"), _below("query")),
    **dict.fromkeys(("field_masking_span", "span_field_masking"), _below("query")),
    **dict.fromkeys(("dis_max", "hybrid"), _below("queries")),
    **dict.fromkeys(("span_near", "span_or"), _below("clauses")),
    **dict.fromkeys(("span_containing", "span_within"), _below("big", "little")),
    "agentic": _below("query_text"),
    "bool": _below("must", "should", filters=("filter",)),
    "boosting": _below("positive"),
    "constant_score": _below(filters=("filter",)),
    "intervals": _intervals,
    "knn": _knn,
    "more_like_this": _below("like"),
    "query_string": _in_syntax(_QUERY_STRING),
    "simple_query_string": _in_syntax(_SIMPLE_QUERY_STRING),
    "span_first": _below("match"),
    "span_not": _below("include"),
    # Retrievers of Elasticsearch; rrf and linear have a short form whose `query` is the text itself.
    "standard": _below("query", filters=("filter",)),
    **dict.fromkeys(("rrf", "linear"), _below("query", "retrievers", filters=("filter",))),
    **dict.fromkeys(("rescorer", "random_reranker", "diversify"), _below("retriever")),
    **dict.fromkeys(("pinned", "rule"), _below("organic", "retriever")),
    "text_similarity_reranker": _reranker,
}
