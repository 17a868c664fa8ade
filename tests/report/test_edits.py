"""What an edit left, by block in a table and by layer in a figure."""

import pytest
from rich.console import Console

from hpa_bench.report.edits import edit_figure, edit_table
from hpa_bench.results.manifest import EditedLayer, EditManifest


def record(columns: bool = True) -> EditManifest:
    """Two layers of three blocks, and one weight outside."""
    layers = [
        EditedLayer(
            name=f"model.layers.{block}.{kind}.weight",
            norm=0.5 + 0.1 * block,
            **({"columns": 200, "kept": 30 - 10 * block} if columns else {}),
        )
        for block in range(3)
        for kind in ("self_attn.q_proj", "mlp.down_proj")
    ]
    layers.append(EditedLayer(name="lm_head.weight", norm=None))
    about = {"method": "hpa", "config": {}, "models": {}, "data": {}, "recipe": {}, "seed": 0, "stage": 1}
    return EditManifest(**about, command="", layers=layers)


def test_a_block_has_a_row_with_its_shares() -> None:
    console = Console(width=100, record=True)
    console.print(edit_table(record()))
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in console.export_text().splitlines() if "│" in line
    ]

    assert rows == [
        ["model.layers.0", "2", "15.0%", "50.0%"],
        ["model.layers.1", "2", "10.0%", "60.0%"],
        ["model.layers.2", "2", "5.0%", "70.0%"],
        ["lm_head.weight", "1", "-", "-"],
    ]


@pytest.mark.parametrize("columns", [True, False])
def test_a_kind_of_layer_has_a_line_over_the_blocks(columns: bool) -> None:
    figure = edit_figure(record(columns))

    figure.draw_without_rendering()
    axes = figure.axes
    assert len(axes) == 1 + columns
    for each in axes:
        assert [line.get_label() for line in each.lines] == ["self_attn.q_proj", "mlp.down_proj"]
        assert list(each.lines[0].get_xdata()) == [0, 1, 2]
    assert list(axes[-1].lines[1].get_ydata()) == pytest.approx([50, 60, 70])
    assert not columns or list(axes[0].lines[0].get_ydata()) == pytest.approx([15, 10, 5])
