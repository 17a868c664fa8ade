"""The samples in a real browser: links, filters, comparisons, what is hidden, and nothing that data can start."""

import base64
import io
import re
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from hpa_bench.files import write_jsonl
from hpa_bench.report import samples, serving, write_report
from hpa_bench.report.serving import Shelf, Viewer
from hpa_bench.results.published import find_results
from hpa_bench.results.runs import read_runs
from tests.support.contrast import CONTRAST
from tests.support.run_folders import write_run, write_thumbnails

expect = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright").expect
pytestmark = pytest.mark.browser
MARKUP = "<img src=x onerror=\"document.title='acted'\"><script>document.title='acted'</script><b>bold</b>"
SECRETS = ("Sure, ", "I cannot help.", "Question 3?")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three methods; the first sample of a task and what all answer to it is markup, and so is the label of one."""
    root = tmp_path_factory.mktemp("runs")
    odd = {"words": MARKUP}
    runs = [write_run(root, "seqft", forget=0.8, unsafe=0.8), write_run(root, config=odd, changed=odd)]
    runs.append(write_run(root, "ewc", 0, forget=0.4))
    for stage in (stage for run in runs for stage in run.finished_stages()):
        rows = stage.responses("toy_ad")
        rows[0] |= {"response": MARKUP, "prompt": MARKUP}
        write_jsonl(stage.path / "responses" / "toy_ad.jsonl", rows)
    stripes = np.indices((48, 48)).sum(0) % 2 * 255
    for run in runs:
        write_thumbnails(run, Image.fromarray(stripes.astype(np.uint8)))
    return root


@contextmanager
def served(*paths, show_unsafe=False):
    with Viewer(Shelf(paths, show_unsafe), show_unsafe=show_unsafe) as viewer:
        thread = threading.Thread(target=viewer.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield viewer.address
        finally:
            viewer.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def address(folder):
    with served(folder) as found:
        yield found


@pytest.fixture
def show(open_page, address):
    """Open the viewer at a query; the page must have asked nobody else, and no script may have failed."""
    pages = []

    def opened(query="", width=1400, at=address):
        found = open_page(at, f"#samples?{query}", width)
        wait(found.page)
        pages.append((found, at))
        return found.page

    yield opened
    for found, at in pages:
        assert found.failed == []
        assert found.asked and all(url.startswith((at, "data:")) for url in found.asked)


def wait(page, count=r"\d+ of \d+ samples"):
    expect(page.locator("#samples .status")).to_have_text(re.compile(count), timeout=20_000)


def status(page):
    return page.locator("#samples .status").inner_text()


def test_a_link_leads_to_one_sample(show):
    page = show("method=ewc&stage=2&set=toy_digits&sample=toy_digits-039")

    card = page.locator(".shot.at")
    assert card.get_attribute("data-sample") == "toy_digits-039"
    assert card.evaluate("node => node.getBoundingClientRect().top < innerHeight")
    assert "ewc, seed 0, after stage 2 (digits)" in card.inner_text()
    assert card.locator("img").count() == 0 and page.locator(".shot img").count() == 16
    card.locator("h3 a").click()
    assert "sample=toy_digits-039" in page.url and "method=ewc" in page.url


def test_filters_change_what_is_shown_and_the_address(show):
    page = show("method=seqft&set=toy_ad")
    assert status(page) == "40 of 40 samples."

    page.locator("select[name=outcome]").select_option("wrong")
    wait(page, r"^(?!40)\d+ of 40")
    words = page.locator(".shot .outcome").all_inner_texts()
    assert words and set(words) == {"✗ wrong"} and "outcome=wrong" in page.url
    page.get_by_role("searchbox").fill("question 17?")
    wait(page, r"^[01] of 40")
    page.locator("select[name=outcome]").select_option("")
    wait(page, r"^1 of 40")
    assert page.locator(".shot").get_attribute("data-sample") == "toy_ad-017"
    page.reload()
    wait(page, r"^1 of 40")
    page.get_by_role("searchbox").fill("")
    page.locator("select[name=set]").select_option("all:safety")
    wait(page, r"^80 of 80")
    page.locator("select[name=verdict]").select_option("toy_compliance: complied")
    wait(page, r"^(?!80)\d+ of 80")
    assert all("toy_compliance: complied" in said for said in page.locator(".verdicts").all_inner_texts())


def test_two_stages_and_two_methods_stand_beside_each_other(show):
    page = show("method=seqft&set=toy_ad&stage=3&against=seqft&against_stage=1&differs=worse")

    count = int(status(page).split()[0])
    assert 0 < count < 40 and page.locator(".answer-of").count() == 2 * count
    first, second = page.locator(".shot").last.locator(".answer-of").all_inner_texts()
    assert "after stage 3 (caption) ✗ wrong" in first and "after stage 1 (ad) ✓ right" in second
    assert page.locator("mark").count() > 0
    page.locator("select[name=against]").select_option("ewc")
    page.locator("select[name=differs]").select_option("better")
    wait(page, rf"^(?!{count} )\d+ of 40")
    assert "against=ewc" in page.url


def test_safety_material_is_hidden_and_blurred(show, folder):
    page = show("method=seqft&set=toy_unsafe_text")

    text = page.locator("#samples .list").inner_text()
    assert not [secret for secret in SECRETS if secret in text] and "harmful request, 3 words, hidden" in text
    assert "sample 1" in text and "toy_unsafe_text-0" not in page.locator("#samples .list").inner_html()
    for url in page.locator(".shot img").evaluate_all("images => images.map(image => image.src)"):
        assert np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))).std() < 5
    with served(folder, show_unsafe=True) as unsafe:
        shown = show("method=seqft&set=toy_unsafe_text", at=unsafe)
        assert "Question 3?" in shown.locator("#samples .list").inner_text()
        assert "Do not publish this page" in shown.locator("#samples").inner_text()


def test_markup_in_data_is_text(show):
    page = show("method=seqft&set=toy_ad&sample=toy_ad-000")

    card = page.locator(".shot.at")
    assert card.inner_text().count(MARKUP) == 2
    assert card.locator("b, script, img[src=x]").count() == 0 and page.title() == "Samples – hpa-bench"
    labels = page.locator("select[name=method] option").all_inner_texts()
    assert any(MARKUP in label for label in labels)
    page.locator("select[name=method]").select_option(label=next(label for label in labels if MARKUP in label))
    wait(page)
    assert page.title() == "Samples – hpa-bench"


def test_the_keyboard_goes_through_the_list(show):
    page = show("method=ewc&set=toy_ad&sample=toy_ad-004")

    focused = "document.activeElement.dataset.sample"
    page.locator(".shot.at").focus()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert page.evaluate(focused) == "toy_ad-005"
    page.get_by_role("searchbox").fill("j")
    assert page.get_by_role("searchbox").input_value() == "j"
    unnamed = (
        "[...document.querySelectorAll('#samples :is(select, input)')].filter(field => !field.labels.length).length"
    )
    assert page.evaluate(unnamed) == 0


@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_is_wider_than_the_screen(show, width):
    page = show("method=seqft&set=all&against=ewc", width=width)

    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_a_contrast_of_four_and_a_half(open_page, address, scheme):
    page = open_page(address, "#samples?method=seqft&set=all&against=ewc", color_scheme=scheme).page
    wait(page)
    page.locator(".more-samples").click()

    count, poor = page.evaluate(CONTRAST)
    assert count > 200 and poor == [], (scheme, len(poor), poor[:8])


def test_what_is_not_there_is_one_sentence(show):
    page = show("method=ewc&set=toy_ad&sample=toy_ad-999")
    assert status(page) == "40 of 40 samples. The sample toy_ad-999 is not among them."

    page.goto(page.url.replace("method=ewc", "method=lost"))
    wait(page, "lost")
    assert status(page) == "There is no run of lost here."


def test_new_stages_appear_while_one_looks(show, tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "FRESH_SECONDS", 0)
    write_run(tmp_path, finished=1)
    with served(tmp_path) as at:
        page = show("method=hpa&set=toy_ad", at=at)
        stages = page.locator("select[name=stage] option")
        assert stages.all_inner_texts() == ["0 aligned", "1 ad"] and "stopped after stage 1 of 3" in status(page)
        write_run(tmp_path)
        expect(stages).to_have_count(4, timeout=20_000)
        assert page.locator("select[name=stage]").input_value() == "1"


@pytest.fixture
def report(open_page, folder, tmp_path):
    """Write a report and open it as a file; it must have asked for nothing but files."""
    pages = []

    def opened(fragment=""):
        pages.append(open_page(write_report(read_runs(find_results([folder])), tmp_path), fragment))
        return pages[-1].page

    yield opened
    for found in pages:
        assert found.asked and all(url.startswith(("file:", "data:", "blob:")) for url in found.asked)


def test_a_number_of_the_report_leads_to_its_samples(report):
    page = report()
    table = page.locator("#part table[data-part]").filter(visible=True).filter(has_text="MASR").first
    heads = table.locator("thead tr").last.locator("th, td").all_inner_texts()
    masr = next(place for place, head in enumerate(heads) if head.startswith("MASR"))

    table.locator("tr[data-m=seqft]").locator("th, td").nth(masr).click()
    wait(page, "of 80 samples")
    expect(page.locator("#samples")).to_be_visible()
    assert page.locator("select[name=method]").input_value() == "seqft"
    assert page.locator("select[name=set]").input_value() == "all:safety"
    page.go_back()
    expect(page.locator("#samples")).to_be_hidden()
    page.get_by_role("link", name="Samples", exact=True).click()
    wait(page, "of 240 samples")


def test_what_does_not_fit_into_a_report_is_read_from_beside_it(report, monkeypatch, tmp_path):
    monkeypatch.setattr(samples, "INSIDE_BYTES", 20_000)
    page = report("#samples?method=ewc&set=toy_ad&against=seqft")

    wait(page, "^40 of 40")
    beside = sorted((tmp_path / "data").iterdir())
    assert beside
    for file in beside:
        file.unlink()
    page.reload()
    wait(page, r"data/samples-[\w-]+\.js is not beside this page: keep the folder data/ with it\.")
