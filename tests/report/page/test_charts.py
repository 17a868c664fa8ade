"""The numbers of the charts are those of the tables."""

import json

import pytest

from hpa_bench.report import tables
from hpa_bench.report.page.charts import data
from hpa_bench.report.samples import script_json
from tests.support.reports import AP, KEY, MASR, ODD, condition_of, several
from tests.support.run_folders import write_run


@pytest.mark.slow
def test_points_curves_and_differences_are_the_tables_numbers(tmp_path):
    condition = condition_of(several(tmp_path))

    found = data(condition, "part")

    labels = [method["label"] for method in found["methods"]]
    hpa, seqft = labels.index("hpa"), labels.index("seqft")
    assert labels == [group.label for group in condition.main]
    for series, number in zip((AP, MASR), found["plane"]["points"][hpa], strict=True):
        cell = condition.main[hpa].final(series)
        assert number == pytest.approx([cell.value, cell.low, cell.high], abs=0.006)
    masr = next(curve for curve in found["curves"] if curve["title"] == "MASR")
    assert masr["values"][hpa][-1] == found["plane"]["points"][hpa][1] and len(masr["values"][hpa]) == 4
    ((contrast,),) = tables.paired([(condition.main[seqft], condition.main[hpa])], [MASR])
    place = [column["title"] for column in found["pairs"]["columns"]].index("MASR")
    assert found["pairs"]["minus"][seqft][hpa][place][0] == pytest.approx(contrast.cell.value, abs=0.006)
    assert found["pairs"]["minus"][seqft][seqft] is None


def test_texts_of_the_data_cannot_end_the_script_and_hold_no_key(tmp_path):
    run = write_run(tmp_path, finished=1, manifest={"suite": ODD}, config={"a": f"</script>{ODD}"}, changed={"a": 1})

    text = script_json(data(condition_of([run]), "part"))

    assert "<" not in text and ">" not in text and KEY not in text
    assert json.loads(text)["methods"][0]["label"].startswith("hpa (a=</script>=1+1 ␛[2J")
