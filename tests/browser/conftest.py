"""A real headless Chromium before a scripted backend (fast), or before a real stack (tests/browser/test_real_stack)."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Browser, ConsoleMessage, Page, ViewportSize, async_playwright, expect

from tests.browser.pages import QUERY
from tests.browser.scripted import Backend

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

WIDE: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 360, "height": 740}

OpenPage = Callable[..., Awaitable[Page]]

# set before any script of the page runs; gathers what the tests then read
WATCH = """
window.violations = [];
window.shifts = [];
window.glides = 0;
const animate = Element.prototype.animate;
Element.prototype.animate = function (...given) { window.glides += 1; return animate.apply(this, given); };
document.addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) shifts.push(entry.value);
}).observe({ type: "layout-shift", buffered: true });
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/browser/" in item.nodeid:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        await browser.close()


@pytest.fixture
def backend() -> Backend:
    return Backend()


@asynccontextmanager
async def served(backend: Backend) -> AsyncIterator[str]:
    """Address of the search page, served by the scripted backend."""
    runner = web.AppRunner(backend.app(), shutdown_timeout=0.1)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/_whyrank/"
    backend.drop()
    await runner.cleanup()


@pytest.fixture
async def site(backend: Backend) -> AsyncIterator[str]:
    async with served(backend) as address:
        yield address


@pytest.fixture
async def open_page(browser: Browser) -> AsyncIterator[OpenPage]:
    """Opens a page in a browser of its own; in the end nothing may have violated the CSP, thrown or complained."""
    pages: list[Page] = []
    complaints: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        # a refused request is logged by the browser itself; tests that refuse one look at the page's own words
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    async def open_at(url: str, **options: Any) -> Page:
        context = await browser.new_context(**options)
        context.set_default_timeout(10_000)
        page = await context.new_page()
        await page.add_init_script(WATCH)
        page.on("console", heard)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        pages.append(page)
        await page.goto(url)
        return page

    yield open_at
    for page in pages:
        complaints += await page.evaluate("window.violations ?? []")
        await page.context.close()
    assert complaints == []


@pytest.fixture
async def page(open_page: OpenPage, site: str) -> Page:
    """The page before its first search, its chooser filled."""
    page = await open_page(site, viewport=WIDE)
    await expect(page.locator("#index option")).not_to_have_count(0)
    return page


async def ask(page: Page, words: str = QUERY) -> None:
    """Search as a person does, and wait for the hits."""
    await page.locator("#words").fill(words)
    await page.locator("#words").press("Enter")
    await expect(page.locator("#hits .hit").first).to_be_visible()


async def titles(page: Page) -> list[str]:
    """The titles of the hits, in the order shown."""
    return await page.locator("#hits .hit-title").all_inner_texts()
