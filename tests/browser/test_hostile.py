"""Documents, explanations and addresses are others' words: they are shown, and do nothing.

The `open_page` fixture fails each of these on any CSP violation, exception or console error.
"""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import ask
from tests.browser.pages import Document
from tests.browser.scripted import Backend
from whyrank.types import Status

MARKUP = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'><b onclick=alert(1)>bold</b>"


@pytest.mark.parametrize("status", [Status.PENDING, Status.COMPLETE])
async def test_markup_in_every_text_is_text(page: Page, backend: Backend, status: Status) -> None:
    backend.status = status
    hostile = Document("<i>id</i>", MARKUP, f"Before {MARKUP} after", 2, MARKUP, f"Says “{MARKUP}”.", url="/p?<script>")
    nameless = Document("<u>nameless</u>", "", MARKUP, 1, "<b onclick=alert(1)>bold</b>")
    backend.documents = [hostile, nameless]
    await ask(page)
    if status is Status.PENDING:
        await backend.finish()
    hit = page.locator(".hit", has=page.locator(".why-text", has_text="Says"))
    await expect(hit.locator(".hit-title")).to_have_text(MARKUP)
    await expect(hit.locator(".why-text")).to_have_text(f"Says “{MARKUP}”.")
    await expect(hit.locator(".snippet mark")).to_have_text(MARKUP)
    await expect(page.locator(".hit-title", has_text="<u>nameless</u>")).to_have_count(1)
    await page.get_by_role("switch").click()
    await expect(page.locator(".column li").first).to_be_visible()
    found = await page.evaluate("document.querySelectorAll('main script, main img, main b, main i, main u').length")
    assert found == 0
    assert await page.evaluate("window.pwned") is None


@pytest.mark.parametrize(
    ("url", "href"),
    [
        ("javascript:window.pwned=1", None),
        (" JaVaScRiPt:window.pwned=1", None),
        ("java\nscript:window.pwned=1", None),
        ("data:text/html,<script>window.pwned=1</script>", None),
        ("vbscript:x", None),
        ("blob:https://example.org/1", None),
        ("file:///etc/passwd", None),
        ("https://example.org/a b", "https://example.org/a%20b"),
        ("http://example.org/", "http://example.org/"),
        ("/library/re.html", "{origin}/library/re.html"),
    ],
)
async def test_only_web_addresses_become_links(page: Page, backend: Backend, url: str, href: str | None) -> None:
    backend.status = Status.COMPLETE
    backend.documents = [Document("one", "A title", "Some words", 2, "Some words", url=url)]
    await ask(page)
    links = page.locator("main a")
    if href is None:
        await expect(links).to_have_count(0)
        await page.locator(".hit-title span").click()
        assert await page.evaluate("window.pwned") is None
    else:
        origin = await page.evaluate("location.origin")
        assert await links.evaluate("link => link.href") == href.format(origin=origin)


async def test_words_of_a_link_are_text_too(page: Page, backend: Backend) -> None:
    backend.documents = []
    await page.goto(f"{page.url}?q=<img src=x onerror=window.pwned=1>")
    await expect(page.get_by_role("alert")).to_contain_text("<img src=x onerror=window.pwned=1>")
    assert await page.evaluate("window.pwned") is None


async def test_a_document_of_odd_fields_is_shown_by_its_id(page: Page, backend: Backend) -> None:
    backend.documents = [Document("plain-id", "", "", 0, "", grounded=False)]
    await ask(page)
    await expect(page.locator(".hit-title")).to_have_text("plain-id")


async def test_endless_words_do_not_widen_the_page(page: Page, backend: Backend) -> None:
    await page.set_viewport_size({"width": 360, "height": 740})
    backend.status = Status.COMPLETE
    backend.documents = [Document("long", "x" * 900, "y" * 5000, 2, "y" * 120, "z" * 900, url="/" + "u" * 500)]
    await ask(page)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
