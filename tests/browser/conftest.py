"""A real browser: the Chromium that is there (`make system` installs one), driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


class Opened:
    """A page that was opened, and what it did meanwhile.

    Args:
        page: Playwright's.
    """

    def __init__(self, page: Any) -> None:
        self.page = page
        self.asked: list[str] = []
        """The addresses that it asked for."""
        self.failed: list[str] = []
        """What its scripts failed by, and what the browser refused."""
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.failed.append(str(error)))
        page.on("console", lambda said: self.failed.append(said.text) if said.type == "error" else None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"none of {', '.join(NAMES)} is there: make system, or set CHROMIUM to the path of one")
    with playwright.sync_playwright() as started:
        # Root has no sandbox; elsewhere it stays.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        try:
            launched = started.chromium.launch(executable_path=path, args=arguments)
        except playwright.Error as error:
            pytest.skip(f"{path} does not start here: {str(error).splitlines()[0]}")
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Opened]]:
    """Open a file or an address; whatever was opened is closed after the test."""
    pages = []

    def opened(where: Path | str, fragment: str = "", width: int = 1400, height: int = 900, **options: Any) -> Opened:
        page = browser.new_page(viewport={"width": width, "height": height}, **options)
        found = Opened(page)
        pages.append(page)
        page.goto(f"{where.as_uri() if isinstance(where, Path) else where}{fragment}")
        return found

    yield opened
    for page in pages:
        page.close()
