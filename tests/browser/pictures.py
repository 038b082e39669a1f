"""`python -m tests.browser.pictures`: take the README's pictures of the search page anew.

Without an argument the scripted backend's verdicts are shown; `--stack URL` takes them from a running sidecar.
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlencode

from playwright.async_api import async_playwright, expect

from tests.browser.conftest import ARGUMENTS, CHROMIUM, WIDE, served
from tests.browser.pages import QUERY
from tests.browser.scripted import INDEX, Backend
from whyrank.types import Status

IMAGES = Path(__file__).parents[2] / "docs" / "images"
MODEL_MS = 180_000


async def take(stack_url: str | None, words: str) -> None:
    """Write search-page.png and compare.png."""
    async with AsyncExitStack() as stack:
        backend = Backend()
        backend.status = Status.COMPLETE
        own = f"{stack_url.rstrip('/')}/_whyrank/" if stack_url else None
        site = own or await stack.enter_async_context(served(backend))
        playwright = await stack.enter_async_context(async_playwright())
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        page = await browser.new_page(viewport=WIDE, reduced_motion="reduce")
        await page.goto(f"{site}?{urlencode({'q': words, 'index': INDEX})}")
        await expect(page.locator(".hit").first).to_be_visible()
        await expect(page.locator("#count")).to_be_empty(timeout=MODEL_MS)
        if await page.locator("#ready button").count():
            await page.locator("#ready button").click()
        IMAGES.mkdir(parents=True, exist_ok=True)
        await page.screenshot(path=IMAGES / "search-page.png")
        await page.get_by_role("switch").click()
        await expect(page.locator(".column li").first).to_be_visible()
        await page.screenshot(path=IMAGES / "compare.png")
        await browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stack", metavar="URL", help="address of a running sidecar")
    parser.add_argument("--words", default=QUERY)
    given = parser.parse_args()
    asyncio.run(take(given.stack, given.words))
