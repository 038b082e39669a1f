"""Keyboard, screen reader, small screens, both themes, and a page that holds still while it fills."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.async_api import Page, ViewportSize, expect

from tests.browser.conftest import PHONE, WIDE, OpenPage, ask
from tests.browser.pages import PYTHON_DOCS, QUERY, Document
from tests.browser.scripted import INDEX, Backend
from whyrank.types import Status

LINK = f"?{urlencode({'q': QUERY, 'index': INDEX})}"
LONG = Document(
    "long",
    "An exhaustive page",
    "It is about everything.",
    1,
    "It is about everything",
    "It is about everything, " + "and then about some more, " * 40,
)


async def test_a_whole_search_by_keyboard(page: Page, backend: Backend) -> None:
    await page.locator("#home").focus()
    await page.keyboard.press("/")
    await page.keyboard.type(QUERY)
    await page.keyboard.press("Enter")
    await expect(page.locator(".hit")).to_have_count(10)
    await page.keyboard.press("ArrowDown")
    await backend.finish()
    await expect(page.locator(".hit-title a").nth(0)).to_be_focused()
    await page.keyboard.press("j")
    await page.keyboard.press("ArrowDown")
    await expect(page.locator(".hit-title a").nth(2)).to_be_focused()
    await page.keyboard.press("k")
    await page.keyboard.press("ArrowUp")
    await page.keyboard.press("ArrowUp")
    await expect(page.locator("#words")).to_be_focused()
    await page.keyboard.press("Tab")  # the button
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("switch")).to_be_focused()
    await page.keyboard.press("Tab")  # before the hits: who is told of it need not pass them all
    await expect(page.locator("#ready button")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator(".move").first).to_have_text("up 1")


async def test_a_slash_in_the_words_is_a_slash(page: Page) -> None:
    await page.locator("#words").fill("a")
    await page.locator("#words").press("/")
    await expect(page.locator("#words")).to_have_value("a/")


async def test_the_skip_link_leads_to_the_results(page: Page, backend: Backend) -> None:
    await ask(page)
    searches = len(backend.searches)
    await page.locator("#home").focus()
    await page.keyboard.press("Shift+Tab")
    await expect(page.get_by_role("link", name="Skip to the results")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#results")).to_be_focused()
    assert len(backend.searches) == searches


async def test_what_changes_is_announced_politely(page: Page) -> None:
    await ask(page)
    await expect(page.locator(".hit .why").first).to_have_attribute("aria-live", "polite")
    await expect(page.locator("#status")).to_have_attribute("role", "status")
    await expect(page.locator("#ready")).to_have_attribute("role", "status")
    await expect(page.get_by_role("search")).to_be_visible()
    await expect(page.get_by_role("main")).to_be_visible()
    await expect(page.get_by_label("Search words")).to_be_visible()
    await expect(page.get_by_label("Index", exact=True)).to_be_visible()


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
async def test_nothing_jumps_while_explanations_come(
    open_page: OpenPage, site: str, backend: Backend, viewport: ViewportSize
) -> None:
    backend.documents = [LONG, *PYTHON_DOCS[:9]]
    page = await open_page(site + LINK, viewport=viewport, reduced_motion="reduce")
    await expect(page.locator(".hit")).to_have_count(10)
    await page.wait_for_load_state("load")
    tops = "[...document.querySelectorAll('.hit')].map((hit) => hit.getBoundingClientRect().top)"
    before = await page.evaluate(tops)
    for document in backend.documents:
        await backend.judge(document.id)
    await backend.order()
    await expect(page.locator("#ready button")).to_be_visible()
    assert await page.evaluate(tops) == before
    shifts: list[float] = await page.evaluate("shifts")
    assert sum(shifts) < 0.1


async def test_a_long_explanation_is_cut_and_can_be_opened(page: Page, backend: Backend) -> None:
    backend.documents = [LONG, *PYTHON_DOCS[:9]]
    await ask(page)
    await backend.judge("long", "linecache")
    more = page.get_by_role("button", name="Show the whole explanation of An exhaustive page")
    await expect(page.locator(".more:visible")).to_have_count(1)
    await expect(more).to_have_attribute("aria-expanded", "false")
    fits = "text => text.scrollHeight <= text.clientHeight + 2"
    text = page.locator(".hit .why-text").first
    assert not await text.evaluate(fits)
    await more.click()
    await expect(more).to_have_attribute("aria-expanded", "true")
    assert await text.evaluate(fits)


@pytest.mark.parametrize("width", [320, 360, 768])
async def test_small_screens_need_no_sideways_scrolling(
    open_page: OpenPage, site: str, backend: Backend, width: int
) -> None:
    backend.status = Status.COMPLETE
    page = await open_page(site + LINK, viewport={"width": width, "height": 740})
    await expect(page.locator(".hit")).to_have_count(10)
    narrow = "document.documentElement.scrollWidth <= innerWidth"
    assert await page.evaluate(narrow)
    await page.get_by_role("switch").click()
    await expect(page.locator(".column li")).to_have_count(20)
    assert await page.evaluate(narrow)


async def test_the_theme_follows_the_reader(open_page: OpenPage, site: str) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = await (await open_page(site, color_scheme="light")).evaluate(ground)
    dark = await (await open_page(site, color_scheme="dark")).evaluate(ground)
    assert (light, dark) == ("rgb(252, 251, 249)", "rgb(21, 22, 23)")


@pytest.fixture(scope="session")
async def axe(pytestconfig: pytest.Config) -> str:
    """The source of axe-core, fetched once into pytest's cache."""
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("axe")
    source = Path(folder) / "node_modules" / "axe-core" / "axe.min.js"
    if not source.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("no npm here to fetch axe-core with")
        options = ("--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund")
        process = await asyncio.create_subprocess_exec(
            npm, "install", "--prefix", str(folder), *options, "axe-core@4", stdout=-3, stderr=-3
        )
        if await process.wait() != 0 or not source.exists():
            pytest.skip("axe-core could not be fetched")
    return source.read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", ["start", "reading", "ready", "compare", "notice"])
async def test_axe_finds_nothing(
    open_page: OpenPage, site: str, backend: Backend, axe: str, scheme: str, view: str
) -> None:
    if view == "notice":
        backend.documents = []
    address = {"start": site, "compare": f"{site}{LINK}&compare=1"}.get(view, site + LINK)
    page = await open_page(address, viewport=WIDE, color_scheme=scheme, reduced_motion="reduce")
    if view in ("reading", "ready", "compare"):
        await expect(page.locator("#count")).not_to_be_empty()
        await backend.judge(*(document.id for document in PYTHON_DOCS[:8]))
        await expect(page.locator("#count")).to_have_text("8 of 10 read")
    if view in ("ready", "compare"):
        await backend.finish()
        await expect(page.locator("#count")).to_be_empty()
    if view == "notice":
        await expect(page.get_by_role("alert")).to_be_visible()
    await page.evaluate(axe)
    found = await page.evaluate("axe.run(document, {resultTypes: ['violations']}).then((result) => result.violations)")
    assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found] == [], json.dumps(found)[:3000]
