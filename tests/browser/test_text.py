"""The page's pure text functions, run in the browser that ships them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from playwright.async_api import Browser

from tests.browser.conftest import served
from tests.browser.scripted import Backend

Call = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="module")
async def call(browser: Browser) -> AsyncIterator[Call]:
    async with served(Backend()) as site:
        page = await browser.new_page()
        await page.goto(site)

        async def call(name: str, *arguments: object) -> Any:
            script = "([name, given]) => import('/_whyrank/text.js').then((module) => module[name](...given))"
            return await page.evaluate(script, [name, list(arguments)])

        yield call
        await page.close()


@pytest.mark.parametrize(
    ("text", "quote", "found"),
    [
        ("One two  three", "two three", "two  three"),
        ("One\n\tTWO Three", "one two", "One\n\tTWO"),
        ("İstanbul ve Ankara", "ve ankara", "ve Ankara"),  # a letter that grows when it is lowered
        ("a b", "  b ", "b"),
        ("a b", "c", None),
        ("a b", "   ", None),
    ],
)
async def test_quotes_are_found_after_folding_space_and_case(call: Call, text: str, quote: str, found: str) -> None:
    spans = await call("findQuotes", text, [quote])
    assert [text[span["start"] : span["end"]] for span in spans] == ([] if found is None else [found])


async def test_a_snippet_keeps_the_quote_in_sight_and_adds_nothing(call: Call) -> None:
    text = "before " * 100 + "the very words" + " after" * 100
    parts = await call("snippet", text, ["the very words"], "anything")
    assert [part["text"] for part in parts if part["marked"]] == ["the very words"]
    joined = "".join(part["text"] for part in parts)
    assert joined.startswith("… before")
    assert joined.endswith(" …")
    assert joined.removeprefix("… ").removesuffix(" …") in text
    assert joined.index("the very words") < 80


async def test_a_snippet_without_quote_shows_where_the_words_stand_closest(call: Call) -> None:
    text = "nothing here " * 60 + "Apples and pears grow here. " + "nothing there " * 60
    parts = await call("snippet", text, ["not in it"], "pears apples")
    joined = "".join(part["text"] for part in parts)
    assert "Apples and pears grow here." in joined
    assert not any(part["marked"] for part in parts)


@pytest.mark.parametrize("words", ["(", "a+b|c[", "\\", "", "日本"])
async def test_words_that_are_patterns_or_absent_break_nothing(call: Call, words: str) -> None:
    parts = await call("snippet", "Some short text", [], words)
    assert parts == [{"text": "Some short text", "marked": False}]


@pytest.mark.parametrize(
    ("source", "path", "text"),
    [
        ({"a": {"b": "x"}}, "a.b", "x"),
        ({"a.b": "x"}, "a.b", "x"),
        ({"a": [{"b": "x"}, {"b": ["y", "z"]}]}, "a.b", "x\ny\nz"),
        ({"a": 3}, "a", "3"),
        ({"a": {"c": 1}}, "a.b", ""),
        ({"a": {}}, "a", ""),
        ({}, "constructor.name", ""),
        (None, "a", ""),
    ],
)
async def test_fields_by_their_paths(call: Call, source: object, path: str, text: str) -> None:
    assert await call("fieldText", source, path) == text
