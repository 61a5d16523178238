"""The page in a real browser, opened from disk: no console error, pictures are there, sorting by click and by key."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import caches
import pytest
from trained_runs import BATCH_SIZE, STEPS, again, train, write_page

pytestmark = pytest.mark.slow
LOSSES = {"first": 0.5, "second": 3.0, "third": 0.25, "unknown": None}
MORE_STEPS = {"first": 3, "second": 1, "third": 2, "unknown": None}
"""Times the steps of the one run that was trained."""


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
    trained = first.rename(folder / "trained")
    for name, loss in LOSSES.items():
        times = MORE_STEPS[name]
        changed = {"best_val_loss": loss, "steps": times and STEPS * times}
        again(trained, name, lambda summary, changed=changed: summary.update(changed)).rename(folder / "runs" / name)
    (folder / "runs/third/logs/version_1").mkdir()
    (folder / "runs/third/logs/version_1/metrics.csv").write_text("step,train_loss\n0,0.000123\n9,0.0001\n")
    write_page(cache, "--runs", folder / "runs", "--num", "8", "--teacher_rate", "0.01")
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
    assert len(widths) == 8 + 8 and min(widths) > 0
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


def test_runs_sort_by_what_they_saved(browser: Any, page_file: Path) -> None:
    """Hours and dollars as numbers, what is not known last in both directions."""
    tab, said = opened(browser, page_file)
    for heading in ("hours saved", "dollars saved"):
        button = tab.locator("#runs th button", has_text=heading)
        button.press("Enter")
        assert order(tab) == ["second", "third", "first", "unknown"]
        button.press("Enter")
        assert order(tab) == ["first", "third", "second", "unknown"]
    column = tab.eval_on_selector_all("#runs thead th", "cells => cells.map(cell => cell.textContent.trim())")
    cells = tab.locator("#runs tbody tr").first.locator("th, td")
    hours = 3 * STEPS * BATCH_SIZE / 0.01 / 3600
    assert cells.nth(column.index("hours saved")).text_content() == f"≈ {hours:,.3g}"
    assert cells.nth(column.index("dollars saved")).text_content() == f"≈ {0.75 * hours:,.2f}" and said == []


def test_what_a_teacher_gets_wrong_comes_first(browser: Any, page_file: Path) -> None:
    """By keyboard alone, and back again; the surest mistake of either target set leads."""
    tab, said = opened(browser, page_file)

    def shown() -> list[tuple[str, float]]:
        views = "views => views.map(view => [view.id, Number(view.dataset.mistake ?? -1)])"
        return [tuple(view) for view in tab.eval_on_selector_all("figure.view", views)]

    stored, button = shown(), tab.locator("button.order")
    assert len(stored) == 8 + 8 and len({mistake for _, mistake in stored}) > 2
    button.focus()
    tab.keyboard.press("Enter")
    assert shown() == sorted(stored, key=lambda view: -view[1]) != stored
    assert button.get_attribute("aria-pressed") == "true"
    tab.keyboard.press("Space")
    assert shown() == stored and said == []


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
    outside = "texts => texts.filter(text => text.getBoundingClientRect().left < 24).map(text => text.textContent)"
    labels = tab.locator(".charts svg text")
    assert "0.0002" in labels.all_text_contents() and labels.evaluate_all(outside) == []  # of a chart, 23 pixels in
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
