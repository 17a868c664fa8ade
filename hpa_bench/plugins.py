"""The doors for strangers' code: every kind that an entry point or a file given by `--plugin` may add to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hpa_bench.engines.base import engines
from hpa_bench.errors import UserError
from hpa_bench.judges.base import judges
from hpa_bench.launchers.base import launchers
from hpa_bench.method import methods
from hpa_bench.registry import Registry
from hpa_bench.runner.events import observers

DOORS: tuple[Registry[Any], ...] = (methods, engines, judges, launchers, observers)


def load_plugins(paths: Iterable[Path]) -> None:
    """Register what files given by `--plugin` define.

    Raises:
        UserError: a file is missing, raises on import, or defines none.
    """
    for path in paths:
        if not sum(registry.add_file(path) for registry in DOORS):
            raise UserError(
                f"The plugin {path} defines no method, engine, judge, launcher or observer: expected a class of"
                " one of these kinds, such as hpa_bench.Method, with a `name`."
            )
