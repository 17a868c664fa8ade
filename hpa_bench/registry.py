"""Where classes of one kind are looked up by name: entry points, and files given by `--plugin`.

One door for all: what this package ships registers as a stranger's package does, through an entry point.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from hpa_bench.errors import UserError, unknown

T = TypeVar("T")


class Registry(Generic[T]):
    """Classes of one kind by name; an entry point is imported when its name is asked for."""

    def __init__(self, kind: str, group: str, base: type[T]) -> None:
        """Create a registry.

        Args:
            kind: what is registered, as messages call it, such as "method".
            group: the entry-point group.
            base: the class that all must derive from.
        """
        self.kind = kind
        self.group = group
        self._base = base
        self._plugins: dict[str, type[T]] = {}

    def _entry_points(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for point in entry_points(group=self.group):
            if point.name in found and found[point.name].value != point.value:
                raise UserError(
                    f"Two packages register the {self.kind} {point.name!r}: {found[point.name].value} and"
                    f" {point.value}. Uninstall one."
                )
            found[point.name] = point
        return found

    def names(self) -> list[str]:
        """Return every registered name, importing nothing."""
        return sorted({*self._entry_points(), *self._plugins})

    def origin(self, name: str) -> str:
        """Return where a name comes from: a distribution, or a plugin's file."""
        if name in self._plugins:
            return str(sys.modules[self._plugins[name].__module__].__file__)
        dist = self._entry_points()[name].dist
        return dist.name if dist else "unknown"

    def get(self, name: str) -> type[T]:
        """Return the class registered under a name.

        Raises:
            UserError: no such name (the nearest is offered), or its module cannot be imported, or it is no such class.
        """
        if name in self._plugins:
            return self._plugins[name]
        points = self._entry_points()
        if name not in points:
            raise unknown(self.kind, name, self.names())
        try:
            loaded = points[name].load()
        except Exception as error:
            raise UserError(
                f"The {self.kind} {name!r} (from {self.origin(name)}, {points[name].value}) is broken:"
                f" {type(error).__name__}: {error}."
            ) from error
        return self._checked(loaded, f"{name!r} (from {self.origin(name)})")

    def _checked(self, loaded: Any, what: str) -> type[T]:
        if not (isinstance(loaded, type) and issubclass(loaded, self._base)):
            base = f"{self._base.__module__}.{self._base.__qualname__}"
            raise UserError(f"The {self.kind} {what} is not a subclass of {base}.")
        return loaded

    def add(self, loaded: type[T], name: str) -> None:
        """Register a class for this process.

        Raises:
            UserError: the name is taken by another class.
        """
        taken = name in self._entry_points() or self._plugins.get(name, loaded) is not loaded
        if taken:
            raise UserError(f"The {self.kind} {name!r} exists already (from {self.origin(name)}): choose another name.")
        self._plugins[name] = loaded

    def add_file(self, path: Path) -> int:
        """Register every class of this kind that a Python file defines; return how many."""
        module = _import_file(path)
        found = [
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, self._base) and value.__module__ == module.__name__
        ]
        for value in found:
            name = getattr(value, "name", "")
            if name:
                self.add(value, name)
        return len(found)


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"No plugin file {path}: expected a Python file.")
    resolved = path.resolve()
    # Two plugins may be called method.py: the whole path names the module.
    name = f"hpa_bench_plugin_{resolved.stem}_{hashlib.sha256(str(resolved).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, resolved)
    if spec is None or spec.loader is None:
        raise UserError(f"The plugin {path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"The plugin {path} cannot be imported: {type(error).__name__}: {error}.") from error
    return module
