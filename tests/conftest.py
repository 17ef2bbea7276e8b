"""Fixtures that several files of tests share."""

import os
import sys

import cli
import generation
import helpers
import pytest
import trained
import translation
from recipes import Recipe

# What a process of scripts/test.sh gets as a whole: files that share what takes long to make, or one file. The longest
# are first, so that none of them is left for the end.
TOGETHER = [
    ("test_recipes_prepare", "test_recipes_train"),
    ("test_cli", "test_cli_training", "test_cli_mistakes", "test_limits", "test_search"),
    ("test_export",),
    ("test_feedback_lm",),
    ("test_onnx",),
    ("test_translate", "test_translate_files"),
    ("test_bptt",),
    ("test_incremental",),
    ("test_bench_decode",),
    ("test_workers",),
]
PLACES = {name: place for place, names in enumerate(TOGETHER) for name in names}


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: PLACES.get(item.path.stem, len(TOGETHER)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return str(PLACES.get(os.path.basename(file).removesuffix(".py"), file))

    return Together(config, log)


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
def translating(tmp_path_factory):
    """A corpus, and checkpoints of both architectures, see translation.py."""
    return translation.make(tmp_path_factory.mktemp("translate"))


@pytest.fixture
def work(translating, tmp_path):
    """One translation: its input, its output, and the command line without further options."""
    return translation.Work(translating, tmp_path)


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
