"""`hpa-bench new-method`: a method of your own to start from, and its test."""

from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from hpa_bench.errors import UserError
from hpa_bench.machine.disk import GIVE_AGAIN, make_writable, refusals_told

METHOD = Template('''"""`W0 + share (W1 - W0)`: $class_name. Say here what it does and where it comes from."""

from collections.abc import Iterator
from typing import Annotated

from hpa_bench import Method, MethodConfig, StageContext, Tunable, Weights
from torch import Tensor


class ${class_name}Config(MethodConfig):
    """Hyper-parameters, each a key of --set."""

    share: Annotated[float, Tunable(0.1, 0.9)] = 0.5
    """Of every update, what stays; at 1 the method is `seqft`. `hpa-bench tune` searches what is Tunable."""


class $class_name(Method):
    """Keep a share of every update: W0 + share (W1 - W0)."""

    name = "$name"
    kind = "weights"
    Config = ${class_name}Config

    def adapt(self, before: Weights, after: Weights, ctx: StageContext) -> Iterator[tuple[str, Tensor]]:
        """Yield the edited weight of every linear layer of the language model."""
        if self.config.share == 1:
            return
        for layer in ctx.linear_layers:
            w0, w1 = before[f"{layer}.weight"], after[f"{layer}.weight"]
            edited = w0.float() + self.config.share * (w1.float() - w0.float())
            yield f"{layer}.weight", edited.to(w1.dtype)
''')

TEST = Template('''"""$class_name in small real runs: where it equals `seqft`, and its formula where it does not."""

from pathlib import Path

import hpa_bench
import torch
from safetensors.torch import load_file
from torch import Tensor

PLUGIN = Path(__file__).with_name("$name.py")
ALIGNED = Path(hpa_bench.__file__).parent / "suites" / "tiny" / "aligned" / "model.safetensors"
SMALL = ["training.limit=32", "evaluation.limit=2"]


def weights_after(out: Path, method: str, tasks: str) -> dict[str, Tensor]:
    """Train on a little of some tasks of the embedded suite and return what the last stage hands on."""
    settings = [*SMALL, f"tasks=[{tasks}]"]
    out /= method.replace(":", "-")
    run = hpa_bench.run("tiny", method, settings=settings, plugins=[PLUGIN], out=out, device="cpu")
    return load_file(run.finished_stages()[-1].weights / "model.safetensors")


def test_with_the_whole_update_it_is_seqft_bit_for_bit(tmp_path: Path) -> None:
    ours = weights_after(tmp_path, "$name:share=1", "tiny_ad, tiny_fin")
    seqft = weights_after(tmp_path, "seqft", "tiny_ad, tiny_fin")

    assert all(torch.equal(ours[name], seqft[name]) for name in seqft)


def test_a_share_of_every_update_stays(tmp_path: Path) -> None:
    w0, w1 = load_file(ALIGNED), weights_after(tmp_path, "seqft", "tiny_ad")
    ours = weights_after(tmp_path, "$name:share=0.25", "tiny_ad")

    assert any(not torch.equal(w0[name], w1[name]) for name in w0)
    for name in w0:
        expected = w0[name].double() + 0.25 * (w1[name].double() - w0[name].double())
        torch.testing.assert_close(ours[name].double(), expected, rtol=1e-6, atol=1e-7)
''')


def new_method(
    name: Annotated[str, typer.Argument(help="The method's name, as in half_way.")],
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path(),
) -> None:
    """Write NAME.py, a small method that runs, and test_NAME.py, which tests it."""
    class_name = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
    _check_name(name, class_name)
    files = {out / f"{name}.py": METHOD, out / f"test_{name}.py": TEST}
    with refusals_told(out, GIVE_AGAIN):
        if out.exists() and not out.is_dir():
            raise UserError(f"--out {out} is a file: expected a folder.")
    for path in files:
        if path.exists():
            raise UserError(f"{path} exists already: choose another name, or another --out.")
    make_writable(out)
    for path, template in files.items():
        path.write_text(template.substitute(name=name, class_name=class_name), encoding="utf-8")
    plugin, test = files
    print(f"{plugin} is a method that runs, and {test} its test. Next:\n")
    print(f"  pytest {test}")
    print(f"  hpa-bench compare --plugin {plugin} --methods {name},seqft,hpa --seeds 0")


def _check_name(name: str, class_name: str) -> None:
    from hpa_bench.method import methods

    if not (name.isidentifier() and class_name.isidentifier()) or iskeyword(name):
        raise UserError(f"{name!r} cannot name a method: expected a Python name, such as half_way.")
    if name in methods.names():
        raise UserError(f"The method {name!r} exists already (from {methods.origin(name)}): choose another name.")
    if find_spec(name):
        raise UserError(f"{name}.py would hide the Python module {name!r}: choose another name.")
