"""Fixtures that several files of tests share."""

import pytest
from recipes import Recipe


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """name -> its Recipe, prepared once."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = Recipe(name, tmp_path_factory.mktemp(name))
            made[name].done = made[name].prepare()
        return made[name]

    return get
