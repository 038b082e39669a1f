"""The page before the real thing: engine, sidecar, worker and model, on the index `python-docs`."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from playwright.async_api import expect

from tests.browser.conftest import WIDE, OpenPage

INDEX = "python-docs"
MODEL_MS = 180_000  # a small model on a busy CPU

pytestmark = pytest.mark.real_model


async def test_a_real_search_streams_real_explanations(open_page: OpenPage, stack_url: str) -> None:
    words = "split a string by a regular expression"
    address = f"{stack_url.rstrip('/')}/_whyrank/?{urlencode({'q': words, 'index': INDEX})}"
    page = await open_page(address, viewport=WIDE)
    await expect(page.locator(".hit").first).to_be_visible()
    await expect(page.locator(".label:not(:empty)").first).to_be_visible(timeout=MODEL_MS)
    # an explanation is shown only with its evidence: the words that it quotes are marked in the document's text
    explained = page.locator(".hit", has=page.locator(".why[data-state=explained]"))
    await expect(explained.first).to_be_visible(timeout=MODEL_MS)
    await expect(explained.first.locator("mark").first).to_be_visible()
    await expect(page.locator("#count")).to_be_empty(timeout=MODEL_MS)
    await page.get_by_role("switch").click()
    columns = page.locator(".column")
    engine = await columns.nth(0).locator(".row > :first-child").all_inner_texts()
    await expect(columns.nth(1).locator("li")).to_have_count(len(engine))
    assert sorted(await columns.nth(1).locator(".row > :first-child").all_inner_texts()) == sorted(engine)
