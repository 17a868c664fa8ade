r"""Tables for papers: booktabs, each name escaped, and a document that holds them all.

What is written needs `\usepackage{booktabs,graphicx}` and nothing else, in any font encoding.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from hpa_bench.metrics import METRICS
from hpa_bench.names import short_names
from hpa_bench.redact import clean
from hpa_bench.report import tables
from hpa_bench.report.columns import headline, plane
from hpa_bench.report.conditions import Condition
from hpa_bench.results.measures import Cell, Series

WITH_INTERVAL = r"\providecommand{\withinterval}[2]{\begin{tabular}[t]{@{}r@{}}#1\\[-3pt]{\tiny [#2]}\end{tabular}}"
"""How a number stands with its interval; a paper may define it otherwise before."""
ARROWS = {"higher": r" $\uparrow$", "lower": r" $\downarrow$", "": ""}
_MARKED = {"best": r"\textbf{{{}}}", "second": r"\underline{{{}}}", "": "{}"}
_ESCAPED = {
    **{character: rf"\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",
    "*": "{*}",  # After `\\`, either would be read as an argument.
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "Δ": r"$\Delta$",
    "κ": r"$\kappa$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "‘": r"\textquoteleft{}",
    "’": r"\textquoteright{}",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    "…": r"\dots{}",
    **{character: character for character in "ßæøåÆØÅ"},
}
_LIGATURES = re.compile(r"(?<=-)(?=-)|(?<=,)(?=,)|(?<=')(?=')")
"""Between characters of which fonts make one."""


def escaped(text: str) -> str:
    """Return a text as LaTeX prints it, whatever it holds.

    Letters with an accent lose it outside Latin-1; what LaTeX has no letter for stands as its code point.
    """
    found = "".join(map(_escaped, " ".join(clean(text).split())))
    return _LIGATURES.sub("{}", found)


def _escaped(character: str) -> str:
    if character in _ESCAPED:
        return _ESCAPED[character]
    if character.isascii():
        return character
    plain = unicodedata.normalize("NFKD", character)[0]
    if not plain.isascii():
        return rf"\texttt{{U+{ord(character):04X}}}"
    accented = "À" <= character <= "ÿ" and plain != character
    return character if accented else _ESCAPED.get(plain, plain)


def main_table(condition: Condition) -> str:
    """Return the main table: every method's headline numbers with their intervals, and what is best."""
    columns = headline(condition)
    rows = [
        [escaped(row.group.label), row.group.seeds]
        + [_cell(cell, mark) for cell, mark in zip(row.cells, row.marks, strict=True)]
        for row in tables.main(condition)
    ]
    judges = ", ".join(dict.fromkeys(series.judge for series in columns if series.judge))
    caption = (
        f"{condition.title}: percent, mean over seeds, {tables.intervals(condition)}."
        + (f" Judges: {judges}." if judges else "")
        + f" {tables.MARKS}"
    )
    return _table(caption, "main", ["Method", "Seeds", *map(_title, columns)], rows)


def differences_table(condition: Condition) -> str:
    """Return each method minus the reference, paired; a star where the difference is told from 0."""
    reference, columns = condition.reference, headline(condition)
    others = [group for group in condition.main if group is not reference]
    rows = [
        [escaped(group.label)] + [_cell(one.cell, signed=True, star=one.differs) for one in row]
        for group, row in zip(others, tables.contrasts(condition, others, reference), strict=True)
    ]
    caption = (
        f"{condition.title}: each method minus {reference.label}, percentage points, paired by seed and by test"
        f" sample, {tables.intervals(condition)}. A star: told from 0 at 5% after Holm’s correction over the methods"
        " of the column."
    )
    return _table(caption, "differences", ["Method", *map(_title, columns)], rows)


def sets_table(condition: Condition) -> str:
    """Return final numbers set by set: accuracy of each task, ASR of each safety set by the first judge."""
    judge = plane(condition)[1].judge
    columns = [Series(task, "task", "", "accuracy") for task in condition.tasks]
    columns += [Series(name, "safety", judge, "asr") for name in condition.safety_sets if judge]
    short = short_names(condition.tasks) | short_names(condition.safety_sets)
    rows = [
        [escaped(group.label)] + [_cell(group.final(series), interval=False) for series in columns]
        for group in condition.main
    ]
    caption = f"{condition.title}: accuracy of each task" + (
        f" and attack success rate on each safety set (judge {judge})" if judge and condition.safety_sets else ""
    )
    head = [rf"\rotatebox{{60}}{{{escaped(short[series.set])}{_arrow(series)}}}" for series in columns]
    return _table(f"{caption}, after the last stage, percent, mean over seeds.", "sets", ["Method", *head], rows)


def tables_of(condition: Condition) -> dict[str, str]:
    """Return the tables of a condition, by the names of their files."""
    found = {"main": main_table(condition), "sets": sets_table(condition)}
    return found | ({"differences": differences_table(condition)} if len(condition.main) > 1 else {})


def document(title: str, listed: Sequence[str], figures: Sequence[tuple[str, str, bool]]) -> str:
    """Return a document of two columns that shows every table and figure at its size.

    Args:
        title: the document's.
        listed: paths of tables, without `.tex`.
        figures: path, caption, and whether it is as wide as both columns.
    """
    shown = [rf"\input{{{path}}}" for path in listed]
    for path, caption, wide in figures:
        star = "*" if wide else ""
        shown.append(
            rf"\begin{{figure{star}}}\centering\includegraphics{{{path}}}\caption{{{escaped(caption)}}}\end{{figure{star}}}"
        )
    body = "\n\\clearpage\n".join(shown)
    return (
        "\\documentclass[10pt,letterpaper,twocolumn]{article}\n"
        "\\usepackage[textwidth=6.75in,textheight=9in,columnsep=0.25in]{geometry}\n"
        "\\usepackage{booktabs}\n\\usepackage{graphicx}\n"
        f"\\title{{{escaped(title)}}}\n\\author{{}}\n\\date{{}}\n"
        f"\\begin{{document}}\n\\maketitle\n{body}\n\\end{{document}}\n"
    )


def _title(series: Series) -> str:
    return escaped(tables.title(series)) + _arrow(series)


def _arrow(series: Series) -> str:
    return ARROWS[METRICS[series.metric].better]


def _cell(cell: tables.Found, mark: str = "", signed: bool = False, star: bool = False, interval: bool = True) -> str:
    if not isinstance(cell, Cell):
        return "--" if cell == "-" or cell.startswith("undefined") else "missing"
    value = _MARKED[mark].format(_number(cell.value, signed)) + (r"\rlap{$^*$}" if star else "")
    if not interval or not cell.has_interval:
        return value
    return rf"\withinterval{{{value}}}{{{_number(cell.low)}, {_number(cell.high)}}}"


def _number(value: float, signed: bool = False) -> str:
    return tables.number(value, signed=signed).replace("−", "$-$").replace("+", "$+$")


def _table(caption: str, label: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" & ".join(row) + r" \\" for row in rows]
    columns = "l" + "r" * (len(head) - 1)
    return "\n".join(
        [
            r"% \usepackage{booktabs,graphicx}",
            WITH_INTERVAL,
            r"\begin{table*}",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{escaped(caption)}}}\label{{tab:{label}}}",
            rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
            r"\toprule",
            " & ".join(head) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table*}",
            "",
        ]
    )
