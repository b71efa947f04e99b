from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.house import House

from gsvrd.config.models import Config


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(home=tmp_path)


@pytest.fixture
def house(config: Config) -> Iterator[House]:
    made = House(config)
    yield made
    made.close()
    made.db.close()
