from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support import waiting


@pytest.fixture
def eventually() -> Callable[..., Any]:
    return waiting.eventually
