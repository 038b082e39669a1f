"""What the page says when not all is well: every status, every error, in plain words."""

# ruff: noqa: RUF001 - the page sets real apostrophes and dashes

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import OpenPage, ask
from tests.browser.pages import QUERY
from tests.browser.scripted import INDEX, Backend
from whyrank.types import Status


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (Status.WARMING, "model_not_ready: loading", "The model is still loading; results are in the engine’s order."),
        (
            Status.SHED,
            "queue_full: too many pairs are waiting to be judged",
            "Too many searches are waiting to be read; results are in the engine’s order.",
        ),
        (
            Status.FAILED,
            "store_unavailable: Error 111 connecting to 127.0.0.1:6379",
            "Results could not be read and are in the engine’s order. The store of verdicts cannot be reached.",
        ),
        (
            Status.FAILED,
            "unjudgeable: the model failed on 10 of 10 (no_label)",
            "Results could not be read and are in the engine’s order. The model gave no usable answer.",
        ),
        (
            Status.BYPASSED,
            "policy_disabled: The policy of python-docs is switched off.",
            "Results are in the engine’s order. Reranking is switched off for this index.",
        ),
        (
            Status.BYPASSED,
            "scroll: A scroll is an export, not a page of results.",
            "Results are in the engine’s order. A scroll is an export, not a page of results.",
        ),
    ],
)
async def test_each_status_in_plain_words(
    page: Page, backend: Backend, status: Status, reason: str, words: str
) -> None:
    backend.status, backend.reason = status, reason
    await ask(page)
    await expect(page.locator("#status")).to_have_text(words)
    await expect(page.locator(".hit")).to_have_count(10)
    waiting = 10 if status is Status.WARMING else 0
    await expect(page.get_by_text("waiting for the model…")).to_have_count(waiting)
    await expect(page.get_by_text("reading…")).to_have_count(0)


async def test_a_model_that_wakes_up_is_noticed(page: Page, backend: Backend) -> None:
    backend.status, backend.reason = Status.WARMING, "model_not_ready: loading"
    await ask(page)
    await backend.judge("linecache")
    await expect(page.locator("#status")).to_have_text("Results are in the engine’s order while they are read.")


async def test_what_is_partly_judged_keeps_reading(page: Page, backend: Backend) -> None:
    backend.status, backend.reason = Status.PARTIAL, "deadline: 2 of 10 judged within 0 ms"
    backend.cache("linecache", "fileinput")
    await ask(page)
    await expect(page.locator("#count")).to_have_text("2 of 10 read")
    await expect(page.get_by_text("reading…")).to_have_count(8)


async def test_an_end_with_verdicts_missing_offers_to_wait_on(page: Page, backend: Backend) -> None:
    await ask(page)
    await backend.judge("csv")
    await backend.order()
    await expect(page.locator("#ready")).to_contain_text("Some explanations are late.")
    await expect(page.get_by_text("Not read.")).to_have_count(9)
    await page.locator("#ready button").click()
    await expect(page.locator("#ready")).to_contain_text("Some explanations are late.")  # the script says no more
    assert backend.streams == 2


async def test_no_results(page: Page, backend: Backend) -> None:
    backend.documents = []
    await page.locator("#words").fill("qwertz")
    await page.locator("#words").press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("No results in python-docs")
    await expect(page.get_by_role("alert")).to_contain_text("Nothing matches “qwertz”.")


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (
            400,
            {"error": {"root_cause": [{"reason": "field expansion matches too many fields"}]}, "status": 400},
            "field expansion matches too many fields",
        ),
        (404, {"error": {"type": "index_not_found_exception"}, "status": 404}, "This index is not there any more."),
        (403, {"error": {"reason": "no permissions for [search]"}}, "You may not search this index."),
        (503, {"error": {"reason": "the engine cannot be reached"}}, "The search engine is not answering."),
    ],
)
async def test_engine_errors_are_said_kindly_and_can_be_retried(
    page: Page, backend: Backend, status: int, error: dict[str, object], words: str
) -> None:
    backend.refusal = status, error
    await page.locator("#words").fill(QUERY)
    await page.locator("#words").press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text(words)
    backend.refusal = None
    await page.get_by_role("button", name="Try again").click()
    await expect(page.locator(".hit")).to_have_count(10)
    await expect(page.get_by_role("alert")).to_be_hidden()


async def test_a_network_error_is_said_and_can_be_retried(page: Page) -> None:
    await page.context.set_offline(True)
    await page.locator("#words").fill(QUERY)
    await page.locator("#words").press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("The search could not be sent.")
    await page.context.set_offline(False)
    await page.get_by_role("button", name="Try again").click()
    await expect(page.locator(".hit")).to_have_count(10)


async def test_a_broken_stream_is_taken_up_again_where_it_was(page: Page, backend: Backend) -> None:
    await ask(page)
    await backend.judge("linecache")
    await expect(page.locator("#count")).to_have_text("1 of 10 read")
    backend.drop()
    await expect(page.locator("#status")).to_have_text("The connection was lost; trying again…")
    await backend.judge("fileinput")
    await expect(page.locator("#count")).to_have_text("2 of 10 read")
    await expect(page.locator("#status")).to_have_text("Results are in the engine’s order while they are read.")
    assert backend.streams == 2


async def test_a_stream_that_is_refused_can_be_asked_for_again(page: Page, backend: Backend) -> None:
    backend.refuse_streams = True
    await ask(page)
    await expect(page.locator("#ready")).to_contain_text("Explanations stopped coming.")
    await expect(page.get_by_text("reading…")).to_have_count(0)
    backend.refuse_streams = False
    await page.locator("#ready button").click()
    await backend.judge("linecache")
    await expect(page.locator(".hit").first.locator(".label")).to_have_text("Partly answers the query")
    await expect(page.locator("#ready")).to_be_empty()


async def test_without_a_policy_the_page_says_what_to_do(open_page: OpenPage, site: str, backend: Backend) -> None:
    backend.policies = []
    page = await open_page(site)
    await expect(page.get_by_role("alert")).to_contain_text("whyrank enable INDEX --fields title,body")


async def test_a_link_to_an_index_without_policy_searches_nothing(
    open_page: OpenPage, site: str, backend: Backend
) -> None:
    page = await open_page(f"{site}?{urlencode({'q': QUERY, 'index': '../secret'})}")
    await expect(page.get_by_role("alert")).to_contain_text("“../secret” is not set up.")
    assert backend.searches == []
    await page.locator("#index").select_option(INDEX)
    await ask(page)
