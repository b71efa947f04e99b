from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.house import House

from gsvrd.config.models import Config


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(Config(home=tmp_path))
    yield made
    made.close()
    made.db.close()
