"""What a judge is."""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Set
from typing import Any, ClassVar

from hpa_bench.config import BaseConfig, parse, split_settings
from hpa_bench.data.samples import PLACEHOLDER
from hpa_bench.errors import UserError
from hpa_bench.redact import redacted
from hpa_bench.registry import Registry
from hpa_bench.verdict import HARMLESS, Vocabulary


class JudgeConfig(BaseConfig):
    """Options of a judge: frozen, unknown keys refused. None holds a secret, since run directories keep them."""


class Judge(ABC):
    """Gives every response a verdict.

    It is built before anything is loaded, and checks then what it can (files, names, keys); what is heavy waits for
    `verdicts`.
    """

    name: ClassVar[str]
    """As on the command line; the entry point has the same name."""
    Config: ClassVar[type[JudgeConfig]] = JudgeConfig
    can_say: ClassVar[Set[str]]
    """The verdicts that it can give, such as `hpa_bench.verdict.REFUSALS`; any other is refused."""
    harmless: ClassVar[Set[str]] = HARMLESS
    """Verdicts that are no success of an attack; any other that it can give is one."""
    incidental: ClassVar[frozenset[str]] = frozenset()
    """Options that make it no other judge, such as a time limit: no part of `label`."""
    downloads: Mapping[str, Any] = {}
    """Where the user's downloads lie (`data_root`, `data_folders`), set by `make_judge`; empty outside of a run."""

    def __init__(self, config: JudgeConfig | None = None) -> None:
        self.config: Any = config if config is not None else self.Config()

    @property
    def label(self) -> str:
        """The name that its verdicts are stored under: its own, and the options that make it another judge."""
        options = self.config.model_dump(mode="json", exclude=set(self.incidental), exclude_defaults=True)
        return "-".join([self.name, *(f"{key}={file_name(value)}" for key, value in options.items())])

    @property
    def vocabulary(self) -> Vocabulary:
        """What it can say, and which of it is a success of an attack.

        Raises:
            UserError: its class does not declare it.
        """
        words = frozenset(getattr(self, "can_say", ()))
        if not words:
            raise UserError(
                f"Judge {self.name!r} does not say which verdicts it can give: set can_say on its class, as in"
                ' can_say = {"refused", "not_refused"}.'
            )
        return Vocabulary(words, words & self.harmless)

    @abstractmethod
    def verdicts(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return one verdict a row, in their order.

        Args:
            rows: stored responses, with `id`, `prompt`, `target`, `response` and, where the set has them, `category`
                and `request` (see `asked_in_words`).

        Raises:
            UserError: there is no verdict on some row, for a reason outside the responses. The set is then missing
                with this sentence; a verdict is never made up.
        """

    def release(self) -> None:  # noqa: B027
        """Let go of what was loaded; the next call of `verdicts` loads it again."""


judges: Registry[Judge] = Registry("judge", "hpa_bench.judges", Judge)  # type: ignore[type-abstract]


def make_judge(text: str, downloads: Mapping[str, Any] | None = None) -> Judge:
    """Return the judge that a suite or the command line names, as in `openai:model=gpt-4o`.

    Args:
        text: its name and options.
        downloads: where the user's downloads lie, for what a judge finds there (`Suite.task_metadata`).

    Raises:
        UserError: no such judge or option, or an option holds a key, or the judge finds something missing.
    """
    name, settings = split_settings(text)
    judge_class = judges.get(name)
    judge = judge_class(parse(judge_class.Config, settings, f"of judge {name!r}"))
    # Now, when it has read its own key: that one, too, may stand in an option.
    if redacted(text) != text:
        raise UserError(
            f"An option of judge {name!r} holds what looks like a key or a password, and run directories and reports"
            " keep options: put it in an environment variable and name that."
        )
    judge.downloads = downloads or {}
    _ = judge.vocabulary  # Declared, or refused before anything is loaded.
    return judge


def asked_in_words(row: Mapping[str, Any]) -> str:
    """Return what a row asks for, for a judge that sees no image.

    That is its prompt, or the row's own `request` where the harmful part of a request stands in the image.
    """
    return str(row.get("request") or row["prompt"]).replace(PLACEHOLDER, "").strip()


def has_words(response: str) -> bool:
    """Whether a response has a letter or a digit."""
    return re.search(r"[^\W_]", response) is not None


def file_name(value: Any) -> str:
    """Return a value as a part of a file's name; where that loses something, a digest of the value follows."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    name = re.sub(r"[^A-Za-z0-9._+-]+", "_", text.rstrip("/").rpartition("/")[2])[:32]
    return name if name == text else f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
