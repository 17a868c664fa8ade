"""Reports of synthetic runs: writing them, reading their pages and tables, and runs that several tests need."""

import csv
import io
from html.parser import HTMLParser

from PIL import Image
from rich.console import Console

from hpa_bench.report import terminal_table, write_report
from hpa_bench.report.conditions import conditions
from hpa_bench.results.measures import ALL, Series
from hpa_bench.results.runs import read_runs
from tests.support.run_folders import TASKS, write_run, write_thumbnails

AP = Series(ALL, "task", "", "ap")
MASR = Series(ALL, "safety", "keyword", "masr")

HPA = {"p_max": 15.0, "p_min": 5.0, "selection": "full", "orthogonal": True}

KEY = "sk-proj-abcdef0123456789"

ODD = f"=1+1 \x1b[2J[/red] [bold] :smile: <b>{KEY}"


def several(root, **options):
    runs = [write_run(root, "zero_shot", seed, stages=[], **options) for seed in (0, 1)]
    runs += [write_run(root, "joint", seed, stages=[TASKS], **options) for seed in (0, 1)]
    runs += [write_run(root, "seqft", seed, unsafe=0.7, forget=0.6, **options) for seed in (0, 1)]
    runs += [write_run(root, "hpa", seed, unsafe=0.1, forget=0.1, **options) for seed in (0, 1)]
    for run in runs:
        write_thumbnails(run, Image.new("RGB", (48, 48), "red"))
    return runs


def report_of(runs, out, title="hpa-bench report"):
    return write_report(read_runs(runs), out, title)


def table(page, name):
    with (page.parent / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Visible(HTMLParser):
    """Collects the text of a page, and every tag with its attributes."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self._hidden = [], [], False
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._hidden = tag in ("style", "script")

    def handle_endtag(self, tag):
        self._hidden = False

    def handle_data(self, data):
        if not self._hidden:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def printed(runs):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(terminal_table(runs))
    return console.export_text()


def condition_of(runs, tuned=None):
    (condition,) = conditions(read_runs(runs), tuned)
    return condition


def unlike_seeds(root):
    """Write the runs of a method that is worse than another where both have the seed, and better over all its own."""
    shares = (0.9, 0.9, 0.9, 0.0, 0.0)
    many = [write_run(root, "many", seed, forget=share, unsafe=share, n=300) for seed, share in enumerate(shares)]
    return [*many, *(write_run(root, "few", seed, forget=0.65, unsafe=0.65, n=300) for seed in range(3))]


def setting(root, seed=0, forget=0.25, unsafe=0.2, **changed):
    return write_run(root, "hpa", seed, config=HPA | changed, changed=changed, forget=forget, unsafe=unsafe, n=40)
