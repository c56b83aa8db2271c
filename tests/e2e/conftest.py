"""What the tests of pages in a browser share; each module has a fixture `page` of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, chromium

DESK_WIDTH = 1280


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def desk(browser: Browser, page: Path) -> Browser:
    browser.open(page, width=DESK_WIDTH)
    return browser
