"""Where classes of one kind are looked up by name: entry points, and files given by `--plugin`.

One door for all: what this package ships registers as a stranger's package does, through an entry point.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from itertools import accumulate
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

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

    @cached_property
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
        return sorted({*self._entry_points, *self._plugins})

    def origin(self, name: str) -> str:
        """Return where a name comes from: a distribution, or a plugin's file."""
        if name in self._plugins:
            return str(sys.modules[self._plugins[name].__module__].__file__)
        dist = self._entry_points[name].dist
        return dist.name if dist else "unknown"

    def get(self, name: str) -> type[T]:
        """Return the class registered under a name.

        Raises:
            UserError: no such name (the nearest is offered), or its module cannot be imported, or it is no such class,
                or one of another name.
        """
        if name in self._plugins:
            return self._plugins[name]
        points = self._entry_points
        if name not in points:
            raise unknown(self.kind, name, self.names())
        try:
            loaded = points[name].load()
        except Exception as error:
            raise UserError(
                f"The {self.kind} {name!r} (from {self.origin(name)}, {points[name].value}) is broken:"
                f" {type(error).__name__}: {error}."
            ) from error
        if not (isinstance(loaded, type) and issubclass(loaded, self._base)):
            base = f"{self._base.__module__}.{self._base.__qualname__}"
            raise UserError(f"The {self.kind} {name!r} (from {self.origin(name)}) is not a subclass of {base}.")
        if (own := _name_of(loaded)) != name:
            called = f"is called {own!r}" if own else "has no name"
            raise UserError(
                f"The class {points[name].value} (from {self.origin(name)}) is registered as the {self.kind} {name!r}"
                f" but {called}: set name = {name!r} in it, or rename the entry point."
            )
        return loaded

    def describe(self, name: str) -> str:
        """Return the first line of a class's docstring.

        It is read from the source, and nothing is imported, where the class stands in the module of its entry point.

        Raises:
            UserError: no such name, or nothing can be read and the class cannot be imported either (see `get`).
        """
        point = self._entry_points.get(name)
        written = None if point is None or name in self._plugins else _written_class(point)
        text = ast.get_docstring(written) if written else self.get(name).__doc__
        return (text or "").strip().partition("\n")[0]

    def written(self, name: str, attribute: str) -> Any:
        """Return the literal that the source of an entry point's class gives an attribute, importing nothing.

        None where there is no such name, or its source says nothing of the attribute.
        """
        point = self._entry_points.get(name)
        found = _written_class(point) if point else None
        for node in found.body if found else ():
            match node:
                case ast.Assign(targets=[ast.Name(id=said)], value=ast.Constant(value=value)) if said == attribute:
                    return value
        return None

    def add(self, loaded: type[T], name: str) -> None:
        """Register a class for this process.

        Raises:
            UserError: the name is taken by another class.
        """
        taken = name in self._entry_points or self._plugins.get(name, loaded) is not loaded
        if taken:
            raise UserError(f"The {self.kind} {name!r} exists already (from {self.origin(name)}): choose another name.")
        self._plugins[name] = loaded

    @contextmanager
    def scratch(self) -> Iterator[Self]:
        """Forget after the block what was added within it, as a test of a plugin wants."""
        before = dict(self._plugins)
        try:
            yield self
        finally:
            self._plugins = before

    def add_file(self, path: Path) -> int:
        """Register every class of this kind that a Python file defines; return how many.

        Raises:
            UserError: the file is missing or raises on import, or a class has no name, or a taken one.
        """
        module = _import_file(path)
        found = [
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, self._base) and value.__module__ == module.__name__
        ]
        # A class that others of the file derive from may be there for them alone.
        named = [
            value
            for value in found
            if _name_of(value) or not any(other is not value and issubclass(other, value) for other in found)
        ]
        for value in named:
            if not (name := _name_of(value)):
                raise UserError(
                    f"The {self.kind} {value.__qualname__} in the plugin {path} has no name: set"
                    f" name = {value.__qualname__.lower()!r} in the class, as it is to be called on the command line."
                )
            self.add(value, name)
        return len(named)


def _name_of(registered: type) -> str | None:
    """Return the name that a class gives itself."""
    name = getattr(registered, "name", None)
    return name if isinstance(name, str) else None


def _written_class(point: EntryPoint) -> ast.ClassDef | None:
    """Return an entry point's class as its module's source has it, or None where it has no such class.

    Whatever keeps the source from being read (no such module, a syntax error, a compiled module) is the importer's to
    explain.
    """
    try:
        spec = _find_module(point.module)
        if spec is None or not isinstance(spec.loader, InspectLoader):
            return None
        tree = ast.parse(spec.loader.get_source(point.module) or "")
    except Exception:
        return None
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == point.attr:
            return node
    return None


def _find_module(name: str) -> ModuleSpec | None:
    """Find a module as an import does, without importing the packages that it is in, which may load torch."""
    spec, path = None, None
    for part in accumulate(name.split("."), "{}.{}".format):
        finders = (finder.find_spec for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((found for find in finders if (found := find(part, path)) is not None), None)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    return spec


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
