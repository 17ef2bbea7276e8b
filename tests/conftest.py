"""Fixtures that several files of tests share."""

import sys

import cli
import generation
import helpers
import pytest
import trained
from recipes import Recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the commands of a file of tests write."""
    return tmp_path_factory.mktemp("module")


@pytest.fixture(scope="module")
def data(folder):
    return cli.make_data(folder)


@pytest.fixture(scope="module")
def dictionary():
    return helpers.make_dictionary()


@pytest.fixture(scope="module")
def model(dictionary):
    """Gives end-of-sentence a chance in every step."""
    return generation.make_ending_model(dictionary)


@pytest.fixture
def sample(dictionary):
    return generation.make_sample(dictionary)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Data and a checkpoint of a small translation model, see trained.py."""
    return trained.make(tmp_path_factory.mktemp("cli"))


@pytest.fixture(scope="session")
def transformer(made):
    """The checkpoint of fairseq's own transformer of the same size."""
    more = ["--decoder-embed-dim", 16, "--decoder-ffn-embed-dim", 24]
    trained.train(made, "transformer", *more, arch="transformer")
    return made.folder / "transformer" / "checkpoint_last.pt"


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """The command fairseq-feedback as pip writes it."""
    path = tmp_path_factory.mktemp("bin") / "fairseq-feedback"
    path.write_text(
        f"#!{sys.executable}\nimport sys\nfrom fairseq_feedback.tools.command import main\n"
        "if __name__ == '__main__':\n    sys.exit(main())\n"
    )
    path.chmod(0o755)
    return str(path)


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
