"""Names of sets as tables show them, and as the command line takes them too."""

from collections.abc import Sequence


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return names without the prefix that all share, such as `tiny_`."""
    prefixes = {name.split("_", 1)[0] + "_" for name in names if "_" in name}
    same = len(names) > 1 and len(prefixes) == 1 and all("_" in name for name in names)
    return {name: name.split("_", 1)[1] if same else name for name in names}
