"""The page in a real browser, opened from disk: no console error, pictures are there, sorting by click and by key."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import caches
import pytest
from trained_runs import again, train, write_page

pytestmark = pytest.mark.slow
LOSSES = {"first": 0.5, "second": 3.0, "third": 0.25, "unknown": None}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, the system's own; playwright's download is not needed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright to test pages in a browser")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no browser is installed: apt-get install chromium")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def page_file(pristine_full: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page over a cache and four runs of known losses."""
    folder = tmp_path_factory.mktemp("page")
    cache = caches.copied(pristine_full, folder / "cache")
    first = train(cache, folder / "runs/first")
    for name, loss in LOSSES.items():
        if name != "first":
            again(first, name, lambda summary, loss=loss: summary.update(best_val_loss=loss))
    again(first, "again", lambda summary: summary.update(best_val_loss=LOSSES["first"]))
    shutil.rmtree(first)
    (folder / "runs/again").rename(first)
    write_page(cache, "--runs", folder / "runs", "--num", "8")
    return folder / "page.html"


def opened(browser: Any, page_file: Path, **options: Any) -> tuple[Any, list[str]]:
    """The page in a tab of its own, and what its console says or its network is asked for."""
    tab, said = browser.new_context(**options).new_page(), list[str]()
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: request.url.startswith(("file:", "data:")) or said.append(request.url))
    tab.goto(page_file.as_uri())
    return tab, said


def order(tab: Any) -> list[str]:
    names: list[str] = tab.eval_on_selector_all("#runs tbody th", "cells => cells.map(cell => cell.textContent.trim())")
    return names


def test_no_error_and_every_picture_is_there(browser: Any, page_file: Path) -> None:
    tab, said = opened(browser, page_file)
    widths = tab.eval_on_selector_all("img", "images => images.map(image => image.naturalWidth)")
    assert len(widths) == 8 and min(widths) > 0
    assert said == []


def test_runs_sort_by_click_and_by_keyboard(browser: Any, page_file: Path) -> None:
    tab, said = opened(browser, page_file)
    heading = tab.locator("#runs th button", has_text="best val. loss")
    heading.click()
    assert order(tab) == ["third", "first", "second", "unknown"]
    assert tab.locator("#runs th[aria-sort]").get_attribute("aria-sort") == "ascending"
    heading.focus()
    tab.keyboard.press("Enter")
    assert order(tab) == ["second", "first", "third", "unknown"]  # a value that is not known stays last
    tab.locator("#runs th button", has_text="run").first.focus()
    tab.keyboard.press("Space")
    assert order(tab) == sorted(LOSSES)
    assert said == []


def test_a_name_in_the_legend_takes_its_curves_away(browser: Any, page_file: Path) -> None:
    tab, _ = opened(browser, page_file)
    curves = tab.locator(".charts path[data-run='1']")
    assert curves.count() == 3 and curves.first.is_visible()
    tab.locator(".legend button[data-run='1']").press("Enter")
    assert not curves.first.is_visible() and tab.locator(".charts path[data-run='0']").first.is_visible()
    tab.locator(".legend button[data-run='1']").press("Enter")
    assert curves.first.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone_and_both_schemes_have_their_colours(
    browser: Any, page_file: Path, scheme: str
) -> None:
    tab, said = opened(browser, page_file, viewport={"width": 390, "height": 800}, color_scheme=scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    red = int(tab.evaluate("getComputedStyle(document.body).backgroundColor").partition("(")[2].partition(",")[0])
    assert (red < 64) == (scheme == "dark") and said == []


def test_the_browser_refuses_a_script_that_is_not_the_pages_own(browser: Any, page_file: Path) -> None:
    """What would escape would still not run: the policy names the one script by its hash."""
    spoilt = page_file.with_name("spoilt.html")
    escaped = "<script>window.escaped = 1</script><img src=x onerror='window.escaped = 2'>"
    spoilt.write_text(page_file.read_text().replace("</main>", f"{escaped}</main>"))
    tab, said = opened(browser, spoilt)
    assert tab.evaluate("window.escaped") is None
    assert any("Content Security Policy" in line for line in said)
