"""The report in a real browser: its first screen, tables, charts, tabs, and what it must never do."""

from __future__ import annotations

import re

import pytest

from tests.support.contrast import CONTRAST
from tests.support.reports import report_of, several
from tests.support.run_folders import TASKS, write_run

pytestmark = [pytest.mark.slow, pytest.mark.browser]

BAD = "<img src=x onerror=\"document.title='acted'\"><script>document.title='acted'</script>"
NAMES = ("seqft", "hpa", "l2", "replay", "ewc", "moelora", "wise_ft", "ties", "stranger")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Two conditions; in the first, methods of every kind and one whose name and responses are markup."""
    root = tmp_path_factory.mktemp("report")
    runs = [write_run(root, "zero_shot", seed, stages=[]) for seed in (0, 1)]
    runs += [write_run(root, "joint", seed, stages=[TASKS]) for seed in (0, 1)]
    for place, name in enumerate(NAMES):
        options = {"forget": 0.08 * place, "unsafe": 0.9 - 0.1 * place}
        runs += [write_run(root, name, seed, **options) for seed in (0, 1)]
    odd = {"words": BAD}
    runs += [write_run(root, "hpa", seed, config=odd, changed=odd, response=BAD) for seed in (0, 1)]
    runs += several(root / "harmful", harmful_ratio=0.05)
    return report_of(runs, root / "report", "A & B <report>")


@pytest.fixture
def page(report, open_page):
    opened = open_page(report)
    yield opened.page
    assert opened.failed == []


def names(page, table):
    return page.locator(f"#{table} tbody tr:visible th").all_inner_texts()


def test_the_first_screen_has_the_question_the_answer_the_figure_and_ten_rows(page):
    assert (
        page.locator(".panel.on h2").first.inner_text()
        == "After 3 tasks, which of 12 methods keeps skills and refusals?"
    )
    assert page.locator(".panel.on .answer").inner_text().startswith("Most accurate: ")
    assert page.locator("#part-lead tbody tr").count() == 10
    for selector in (".panel.on h2", ".answer", "#part-lead tbody tr >> nth=9", ".panel.on .lead figure svg"):
        box = page.locator(selector).first.bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= 900, selector
    drawn = page.locator(".panel.on [data-chart=plane] text").all_text_contents()
    assert {"hpa", "seqft", "joint", "zero_shot"} <= set(drawn)


def test_labels_of_the_figure_do_not_overlap(page):
    boxes = [text.bounding_box() for text in page.locator(".panel.on [data-chart=plane] text.halo").all()]

    assert len(boxes) >= 8
    for index, one in enumerate(boxes):
        for other in boxes[index + 1 :]:
            apart = max(
                max(one["x"], other["x"]) - min(one["x"] + one["width"], other["x"] + other["width"]),
                max(one["y"], other["y"]) - min(one["y"] + one["height"], other["y"] + other["height"]),
            )
            assert apart > -3, (one, other)


def test_a_click_sorts_a_column_and_a_second_one_turns_it_round(page):
    head = page.locator("#part-results thead th", has_text="MASR")

    head.get_by_role("button").click()
    cells = page.locator("#part-results tbody td:nth-child(5)").all_inner_texts()
    assert head.get_attribute("aria-sort") == "ascending"
    assert [float(cell) for cell in cells] == sorted(map(float, cells))
    head.get_by_role("button").press("Enter")
    cells = page.locator("#part-results tbody td:nth-child(5)").all_inner_texts()
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(cell) for cell in cells] == sorted(map(float, cells), reverse=True)
    assert page.locator("#part-results [aria-sort]").count() == 1


def test_a_column_without_some_numbers_sorts_them_last(page):
    page.locator("#part-results thead th", has_text="BWT").get_by_role("button").click()

    assert set(names(page, "part-results")[-2:]) == {"zero_shot", "joint"}


def test_methods_are_filtered_by_name_and_by_kind_everywhere(page):
    page.get_by_role("searchbox").fill("l2")
    assert names(page, "part-results") == ["l2"]
    assert page.locator(".panel.on [data-chart=plane] .point").count() == 1
    page.get_by_role("searchbox").fill("")
    page.locator(".chip", has_text="loss terms").click()
    assert not {"l2", "ewc"} & set(names(page, "part-results")) and "hpa" in names(page, "part-results")
    assert page.locator(".count").inner_text() == "10 of 12 methods"


def test_intervals_stand_in_the_hover_and_on_a_switch(page):
    cell = page.locator("#part-results tbody tr", has_text="seqft").locator("td").nth(1)
    assert "[" not in cell.inner_text()

    cell.hover()

    tip = page.locator("#tip").inner_text()
    assert "seqft" in tip and re.search(r"\[[−\d.]+, [−\d.]+\]", tip) and "n = 120 samples, 2 seeds" in tip
    page.get_by_role("button", name="± intervals").click()
    assert "[" in cell.inner_text() and "sd" in cell.inner_text()


def test_each_condition_has_a_tab_that_the_keyboard_reaches(page):
    assert page.locator(".panel:visible").count() == 1
    tab = page.get_by_role("tab", name="original data")
    tab.focus()
    tab.press("ArrowDown")

    assert page.get_by_role("tab", name="5% harmful data").get_attribute("aria-selected") == "true"
    assert "5% harmful samples" in page.locator(".panel:visible h2").first.inner_text()
    assert page.url.endswith("#2-part-main")
    page.go_back()
    assert page.get_by_role("tab", name="original data").get_attribute("aria-selected") == "true"


def test_methods_are_chosen_for_the_curves_and_for_the_differences(page):
    chart = page.locator(".panel.on [data-chart=accuracy]")
    before = chart.locator("polyline").count()
    chart.locator("select").select_option(label="ties")
    assert chart.locator("polyline").count() == before + len(TASKS)
    chart.get_by_role("button", name="Take ties out").click()
    assert chart.locator("polyline").count() == before
    pairs = page.locator(".panel.on [data-chart=pairs]")
    pairs.locator("select").select_option(label="l2")
    assert "hpa minus l2" in (pairs.locator(".point").all()[0].get_attribute("aria-label") or "") or any(
        "hpa minus l2" in (point.get_attribute("aria-label") or "") for point in pairs.locator(".point").all()
    )


def test_arrow_keys_walk_over_cells_and_points(page):
    page.locator("#part-lead").locator("..").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")

    row = page.locator("#part-lead tbody tr").nth(1)
    assert page.evaluate("document.activeElement.closest('tr').dataset.m") == row.get_attribute("data-m")
    assert page.locator("#tip").is_visible()
    page.locator(".panel.on [data-chart=plane] svg").focus()
    page.keyboard.press("ArrowRight")
    assert "MASR" in (page.evaluate("document.activeElement.getAttribute('aria-label')") or "")


@pytest.mark.parametrize("width", [1400, 400])
def test_nothing_overflows_the_window(report, open_page, width):
    page = open_page(report, width=width).page

    for tab in page.get_by_role("tab").all():
        tab.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(
            "[...document.querySelectorAll('.panel.on p')].every((p) => p.scrollWidth <= p.clientWidth + 1)"
        )


def test_heads_and_names_stay_in_view_while_a_table_scrolls(report, open_page):
    page = open_page(report, width=400).page
    wide = page.locator("#part-results").locator("..")
    wide.evaluate("node => node.scrollTo(200, 0)")

    name = page.locator("#part-results tbody th").first.bounding_box()
    assert abs(name["x"] - wide.bounding_box()["x"]) < 2
    caption = page.locator("#part-results-caption").bounding_box()
    assert caption["x"] >= 0 and caption["x"] + caption["width"] <= 400


def test_nothing_is_fetched_and_no_text_of_the_data_acts(report, open_page):
    opened = open_page(report)
    page = opened.page

    for tab in page.get_by_role("tab").all():
        tab.click()
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")

    assert [address for address in opened.asked if not address.startswith(("file:", "data:"))] == []
    assert len(opened.asked) == len([address for address in opened.asked if address.startswith("data:")]) + 1
    assert opened.failed == [] and page.title() == "A & B <report>"
    assert page.locator("img[src=x]").count() == 0
    assert BAD.split(" ")[0] in "".join(page.locator("#part-results th").all_inner_texts())


def test_a_script_that_got_in_would_not_run(report, open_page):
    page = open_page(report).page

    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">')")
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'document.title=2'}))"
    )
    page.wait_for_timeout(50)

    assert page.title() == "A & B <report>"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_a_contrast_of_four_and_a_half(report, open_page, scheme):
    page = open_page(report, color_scheme=scheme).page
    page.get_by_role("button", name="± intervals").click()

    for tab in page.get_by_role("tab").all():
        tab.click()
        page.evaluate("document.querySelectorAll('.panel.on details').forEach((each) => (each.open = true))")
        count, poor = page.evaluate(CONTRAST)
        assert count > 50 and poor == [], (scheme, len(poor), poor[:8])


def test_tables_say_what_their_heads_are_of(page):
    tables = page.locator(".panel.on .table table")

    for table in tables.all():
        assert table.locator("thead th:not([scope])").count() == 0
        assert table.locator("tbody tr th:not([scope])").count() == 0
    assert page.locator("h1").count() == 1 and page.locator("img:not([alt])").count() == 0
    charts = page.locator(".panel.on .canvas").count()
    assert page.locator(".panel.on .chart [role=group][aria-label]").count() == 2 * charts


def test_who_wants_less_motion_gets_none(report, open_page):
    page = open_page(report, reduced_motion="reduce").page

    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"


def test_a_number_leads_to_its_samples_and_back(page):
    page.locator("#part-results tbody tr", has_text="seqft").locator("td").nth(1).click()

    assert "#samples?part=part&method=seqft&stage=3" in page.url
    assert page.locator("#samples").is_visible() and not page.locator(".panel:visible").count()
    page.go_back()
    assert page.locator("#part").is_visible()


def test_what_is_printed_says_so_and_has_no_controls(report, open_page):
    page = open_page(report, width=1040, color_scheme="dark").page
    page.get_by_role("tab", name="5% harmful data").click()
    page.emulate_media(media="print", color_scheme="dark")

    for selector in (".side", ".bar", ".panel.on .controls select", "#tip", ".skip"):
        assert not page.locator(selector).first.is_visible(), selector
    assert "5% harmful data. The other parts of the page are not printed" in page.locator(".printed").inner_text()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    count, poor = page.evaluate(CONTRAST)
    assert count > 50 and poor == []
    assert page.evaluate("[...document.querySelectorAll('.panel.on table')].filter((t) => t.scrollWidth > 1040)") == []
    assert "[" in page.locator("[id='2-part-results'] td").nth(1).inner_text()
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
