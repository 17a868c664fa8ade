"""The command line: one file a verb. Nothing heavy is imported before a verb needs it."""

import sys

import typer

from hpa_bench.cli.align import align
from hpa_bench.cli.compare import compare
from hpa_bench.cli.console import say_error
from hpa_bench.cli.judge import judge
from hpa_bench.cli.list import list_
from hpa_bench.cli.new_method import new_method
from hpa_bench.cli.report import report
from hpa_bench.cli.run import run
from hpa_bench.cli.validate import validate
from hpa_bench.errors import UserError
from hpa_bench.machine.processes import leave_it_to_the_first

app = typer.Typer(
    name="hpa-bench",
    help="Benchmark continual visual instruction tuning of safety-aligned multimodal LLMs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(run)
app.command()(compare)
app.command()(judge)
app.command()(report)
app.command()(align)
app.command("list")(list_)
app.command()(validate)
app.command("new-method")(new_method)


def main() -> None:
    """Run the command line; bad input ends it with one sentence and exit status 2."""
    try:
        app()
    except UserError as error:
        leave_it_to_the_first()
        say_error(str(error))
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("Stopped. The same command goes on from here.", file=sys.stderr)
        raise SystemExit(130) from None
