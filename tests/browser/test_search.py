"""The way of a search on the page: results at once, explanations as they come, the new order when it is wanted."""

# ruff: noqa: RUF001 - the page sets real apostrophes and dashes

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, urlencode, urlsplit

from playwright.async_api import Page, expect

from tests.browser.conftest import PHONE, WIDE, OpenPage, ask, titles
from tests.browser.pages import PYTHON_DOCS, QUERY, Document
from tests.browser.scripted import INDEX, Backend
from whyrank.types import Mode, Policy, Status

ENGINE_ORDER = [document.title for document in PYTHON_DOCS[:10]]
BEST = "fileinput — Iterate over lines from multiple input streams"


async def test_results_stand_in_engine_order_before_any_explanation(page: Page, backend: Backend) -> None:
    await ask(page)
    assert await titles(page) == ENGINE_ORDER
    await expect(page.locator(".why-text").first).to_have_text("reading…")
    await expect(page.locator(".label:not(:empty)")).to_have_count(0)
    await expect(page.locator("#status")).to_have_text("Results are in the engine’s order while they are read.")
    await expect(page.locator("#count")).to_have_text("0 of 10 read")
    [search] = backend.searches
    assert search["query"]["multi_match"] == {"query": QUERY, "fields": ["title^2", "body"], "lenient": True}
    assert search["ext"] == {"whyrank": {"query": QUERY, "deadline_ms": 0}}


async def test_explanations_stream_in_under_their_hits_with_the_quote_marked(page: Page, backend: Backend) -> None:
    await ask(page)
    await backend.judge("inputoutput")
    hit = page.locator(".hit").nth(6)
    await expect(hit.locator(".why-text")).to_contain_text("It answers directly")
    await expect(hit.locator(".label")).to_have_text("Answers the query")
    # the quote is found although the document breaks its lines elsewhere
    await expect(hit.locator(".snippet mark")).to_have_text(
        "you can loop over the file object.  This is memory efficient,\n   fast, and leads to simple code"
    )
    await expect(page.locator("#count")).to_have_text("1 of 10 read")
    await expect(page.locator(".hit").nth(0).locator(".why-text")).to_have_text("reading…")
    assert await titles(page) == ENGINE_ORDER


async def test_labels_are_plain_words(page: Page, backend: Backend) -> None:
    await ask(page)
    await backend.judge("linecache", "fileinput", "csv")
    labels = page.locator(".hit .label:not(:empty)")
    await expect(labels).to_have_text(["Partly answers the query", "Answers the query", "Does not answer the query"])


async def test_what_is_not_grounded_is_not_shown_as_an_explanation(page: Page, backend: Backend) -> None:
    await ask(page)
    await backend.judge("tempfile")
    hit = page.locator(".hit").nth(5)
    await expect(hit.locator(".why-text")).to_have_text("No grounded explanation.")
    await expect(hit.locator(".snippet mark")).to_have_count(0)
    assert "always read by lines" not in await page.content()


async def test_a_quote_that_stands_only_in_the_title_is_marked_there(page: Page, backend: Backend) -> None:
    titled = Document("zip", "Working with zip archives", "Other words.", 2, "zip archives", url="zip.html")
    backend.documents = [titled, *PYTHON_DOCS[1:]]
    await ask(page)
    await backend.judge("zip")
    await expect(page.locator(".hit-title mark")).to_have_text("zip archives")


async def test_a_failed_judgement_says_so(page: Page, backend: Backend) -> None:
    await ask(page)
    await backend.fail("csv")
    await expect(page.locator(".hit").nth(3).locator(".why-text")).to_have_text("The model gave no usable answer.")
    await expect(page.locator(".hit").nth(3).locator(".label")).to_be_empty()


async def test_the_new_order_waits_for_the_reader(page: Page, backend: Backend) -> None:
    await ask(page)
    await page.keyboard.press("Shift")  # any sign of a reader
    await backend.finish()
    await expect(page.locator("#ready")).to_contain_text("The new order is ready.")
    assert await titles(page) == ENGINE_ORDER
    await page.locator("#ready button").click()
    await expect(page.locator(".hit-title").first).to_have_text(BEST)
    await expect(page.locator("#ready")).to_be_empty()
    await expect(page.locator("#status")).to_have_text("Every result was read; this is the new order.")
    moves = await page.locator(".move").all_inner_texts()
    assert moves[:4] == ["up 1", "up 5", "up 6", "down 3"]
    assert "same place" in moves
    assert await page.evaluate("glides") > 0
    assert await page.evaluate("document.activeElement.id") == "summary"


async def test_an_order_that_comes_at_once_is_shown_unasked(page: Page, backend: Backend) -> None:
    await backend.finish()  # all is in the log before the stream opens
    await page.evaluate("performance.now = () => 0")  # nobody has had time to read, however slow this machine is
    await ask(page)
    await expect(page.locator(".hit-title").first).to_have_text(BEST)
    await expect(page.locator("#ready")).to_be_empty()


async def test_who_asked_for_less_motion_gets_none(open_page: OpenPage, site: str, backend: Backend) -> None:
    page = await open_page(site, viewport=WIDE, reduced_motion="reduce")
    await page.evaluate("performance.now = () => 0")
    await backend.finish()
    await ask(page)
    await expect(page.locator("#ready button")).to_be_visible()
    assert await titles(page) == ENGINE_ORDER
    await page.locator("#ready button").click()
    await expect(page.locator(".hit-title").first).to_have_text(BEST)
    assert await page.evaluate("glides") == 0


async def test_a_cached_ranking_comes_in_its_order_at_once(page: Page, backend: Backend) -> None:
    backend.status = Status.COMPLETE
    await ask(page)
    assert (await titles(page))[0] == BEST
    await expect(page.locator(".hit").first.locator(".why-text")).to_contain_text("It loops over the lines")
    await expect(page.locator(".hit").first.locator(".move")).to_have_text("up 1")
    await expect(page.locator("#ready")).to_be_empty()
    await expect(page.locator("#status")).to_have_text("Every result was read; this is the new order.")


async def test_mode_label_gives_labels_without_a_word_about_explanations(page: Page, backend: Backend) -> None:
    backend.mode = Mode.LABEL
    await ask(page)
    await backend.judge("fileinput")
    hit = page.locator(".hit").nth(1)
    await expect(hit.locator(".label")).to_have_text("Answers the query")
    await expect(hit.locator(".why-text")).to_be_empty()


async def test_the_switch_sets_both_orders_side_by_side(page: Page, backend: Backend) -> None:
    await ask(page)
    switch = page.get_by_role("switch", name="Compare with engine order")
    await expect(switch).to_have_attribute("aria-checked", "false")
    await switch.focus()
    await page.keyboard.press("Space")
    await expect(switch).to_have_attribute("aria-checked", "true")
    await expect(page.locator(".awaited")).to_have_text("The new order comes when every result is read.")
    await backend.finish()
    columns = page.locator(".column")
    await expect(columns.nth(1).locator("li")).to_have_count(10)
    assert await columns.nth(0).locator("li a").all_inner_texts() == ENGINE_ORDER
    await expect(columns.nth(1).locator("li a").first).to_have_text(BEST)
    await expect(columns.nth(1).locator(".move").first).to_have_text("up 1")
    left, right = await columns.nth(0).bounding_box(), await columns.nth(1).bounding_box()
    assert left is not None
    assert right is not None
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] < right["x"]
    await switch.click()
    await expect(page.locator(".hit-title").first).to_have_text(BEST)
    await expect(page.locator("#compare")).to_be_hidden()


async def test_on_a_phone_the_orders_are_stacked(open_page: OpenPage, site: str, backend: Backend) -> None:
    backend.status = Status.COMPLETE
    page = await open_page(f"{site}?{urlencode({'q': QUERY, 'index': INDEX, 'compare': '1'})}", viewport=PHONE)
    columns = page.locator(".column")
    await expect(columns.nth(1).locator("li")).to_have_count(10)
    left, right = await columns.nth(0).bounding_box(), await columns.nth(1).bounding_box()
    assert left is not None
    assert right is not None
    assert left["x"] == right["x"]
    assert left["y"] + left["height"] <= right["y"]


async def test_pages_agree_through_the_ranking_and_stay_in_the_window(page: Page, backend: Backend) -> None:
    backend.policies = [Policy(index=INDEX, fields=("title", "body"), window=12)]
    await page.reload()
    await ask(page)
    await page.keyboard.press("Shift")
    await backend.finish()
    await page.locator("#ready button").click()
    await expect(page.locator(".hit-title").first).to_have_text(BEST)
    # the order brings a hit of page two, whose text the page had to fetch with the ranking's id
    first = await titles(page)
    assert "itertools — Functions creating iterators for efficient looping" in first
    assert backend.searches[-1]["ext"]["whyrank"]["ranking"] == "final.signed"
    await page.get_by_role("button", name="Next").click()
    await expect(page.locator("#page")).to_have_text("Page 2 of 2")
    second = await titles(page)
    assert sorted(first + second) == sorted(document.title for document in PYTHON_DOCS)
    assert (backend.searches[-1]["from"], backend.searches[-1]["size"]) == (10, 2)
    await expect(page.get_by_role("button", name="Next")).to_be_disabled()
    await expect(page.locator(".hit .rank").first).to_have_text("11")
    await page.go_back()
    await expect(page.locator("#page")).to_have_text("Page 1 of 2")
    assert await titles(page) == first


async def test_back_and_shared_links_bring_searches_back(page: Page, backend: Backend) -> None:
    await ask(page, "first words")
    await ask(page, "second words")
    assert parse_qs(urlsplit(page.url).query) == {"q": ["second words"], "index": [INDEX]}
    await page.go_back()
    await expect(page.locator("#words")).to_have_value("first words")
    await expect(page).to_have_title("first words – WhyRank")
    await expect(page.locator("#hits .hit")).to_have_count(10)
    assert backend.searches[-1]["ext"]["whyrank"]["query"] == "first words"
    await page.go_back()
    await expect(page.locator("#hits .hit")).to_have_count(0)
    await page.go_forward()
    await expect(page.locator("#hits .hit")).to_have_count(10)


async def test_a_new_search_ends_the_former(page: Page, backend: Backend) -> None:
    backend.hold = asyncio.Event()
    await page.locator("#words").fill("slow words")
    await page.locator("#words").press("Enter")
    await expect(page.locator("#results")).to_have_attribute("aria-busy", "true")
    held, backend.hold = backend.hold, None
    await ask(page, "quick words")
    held.set()
    await expect(page).to_have_title("quick words – WhyRank")
    streams = backend.streams
    await backend.judge("linecache")
    await expect(page.locator("#count")).to_have_text("1 of 10 read")
    assert streams == 1  # the former search never opened one


async def test_the_last_index_is_remembered(page: Page, backend: Backend) -> None:
    backend.policies = [
        Policy(index="articles", fields=("title",)),
        Policy(index=INDEX, fields=("title", "body")),
    ]
    await page.reload()
    await expect(page.locator("#index")).to_have_value("articles")
    await page.locator("#index").select_option(INDEX)
    await ask(page)
    await page.goto(page.url.split("?")[0])
    await expect(page.locator("#index")).to_have_value(INDEX)
