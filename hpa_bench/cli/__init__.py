"""The command line: one file a verb, imported when the verb is asked for, so that its imports stand at its top."""

import ast
import atexit
import builtins
import gc
import signal
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from hpa_bench.errors import UserError
from hpa_bench.machine.imports import without_collections
from hpa_bench.machine.processes import is_main, leave_it_to_the_first
from hpa_bench.machine.stopping import Stopped, end_by, stops_raised
from hpa_bench.redact import clean

VERBS = (
    "run",
    "compare",
    "plan",
    "status",
    "tune",
    "judge",
    "report",
    "view",
    "publish",
    "export",
    "verify",
    "align",
    "convert-llava",
    "adapt",
    "prepare",
    "list",
    "validate",
    "new-method",
    "new-suite",
    "doctor",
)
"""In the order of `--help`. The file of each has its name, and so has its function, but for a Python word."""

ANEW = ("--from-stage", "--no-resume")
"""Options by which a command begins anew each time that it is given."""


class Verbs(TyperGroup):
    """Every verb, its first line read from its file as text: only the one that is asked for is imported."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the verbs."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return what `--help` says of a verb; None where there is none."""
        if cmd_name not in VERBS:
            return None
        return _command(cmd_name, lambda: None, help=_first_line(cmd_name))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the verb that is asked for."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and command is not None:
            module = _module(name)
            function = f"{module}_" if hasattr(builtins, module) else module
            with without_collections():
                command = _command(name, getattr(import_module(f"{__name__}.{module}"), function))
        return name, command, rest


app = typer.Typer(
    cls=Verbs, name="hpa-bench", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


def _say_version(asked: bool) -> None:
    if asked:
        print(f"hpa-bench {version('hpa-bench')}")
        raise typer.Exit


@app.callback()
def _hpa_bench(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version and end.")
    ] = False,
) -> None:
    """Benchmark continual visual instruction tuning of safety-aligned multimodal LLMs."""


def main() -> None:
    """Run the command line; bad input ends it with one sentence and exit status 2."""
    # As Python ends, it looks for garbage in all that was imported, which takes seconds for torch and transformers.
    atexit.register(gc.freeze)
    try:
        with stops_raised():
            app()
    except UserError as error:
        leave_it_to_the_first()
        print(f"Error: {clean(str(error))}", file=sys.stderr, flush=True)
        raise SystemExit(2) from None
    except (KeyboardInterrupt, Stopped) as error:
        _end_stopped(error)


def _end_stopped(error: BaseException) -> NoReturn:
    """Say how the command goes on, and end as the signal says that stopped it."""
    number, done = (error.number, error.done) if isinstance(error, Stopped) else (signal.SIGINT, "")
    anew = next((name for name in ANEW if any(part.partition("=")[0] == name for part in sys.argv)), None)
    without = f" without {anew}" if anew else ""
    if is_main():
        print(f"stopped; the same command{without} goes on{f' ({done})' if done else ''}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    if number == signal.SIGINT:
        raise SystemExit(130)
    end_by(number)


def _command(name: str, function: Any, **options: Any) -> Any:
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name, **options)(function)
    return typer.main.get_command(single)


def _module(name: str) -> str:
    return name.replace("-", "_")


def _first_line(name: str) -> str:
    tree = ast.parse((Path(__file__).parent / f"{_module(name)}.py").read_text(encoding="utf-8"))
    functions = {node.name.strip("_"): node for node in tree.body if isinstance(node, ast.FunctionDef)}
    return (ast.get_docstring(functions[_module(name)]) or "").partition("\n")[0]
