"""Settings are data: fairseq evaluates some of them as Python, and a checkpoint is full of settings."""

import ast
import builtins
import operator
import os
import re
import sys
import tarfile
from argparse import Namespace
from functools import wraps

from omegaconf import OmegaConf

from fairseq_feedback.errors import FeedbackError

# What fairseq's models, tasks, criterions, optimizers and data sets evaluate.
EVALUATED = frozenset(
    "adafactor_eps adam_betas adamax_betas adaptive_input_cutoff adaptive_softmax_cutoff character_filters "
    "conv_aggregator_layers conv_feature_layers decoder_attention decoder_layers decoder_xformers_att_config "
    "downsample encoder_attention encoder_layers encoder_xformers_att_config feature_encoder_spec gated_attention "
    "lamb_betas left_pad_source left_pad_target override_encoder_layers pipeline_balance pipeline_decoder_balance "
    "pipeline_decoder_devices pipeline_devices pipeline_encoder_balance pipeline_encoder_devices pretrained "
    "project_input self_attention wer_args xformers_att_config".split()
)
# What fairseq downloads if it looks like an address, and where the defaults point to.
DOWNLOADED = frozenset(
    "bpe_codes bpe_merges bpe_vocab gpt2_encoder_json gpt2_vocab_bpe sentencepiece_model "
    "sentencepiece_model_path".split()
)
FAIRSEQS_FILES = "https://dl.fbaipublicfiles.com/fairseq/"
# A criterion opens this file for writing as soon as it is built.
WRITTEN = "save_predictions"
# ${oc.env:HOME} asks the environment; ${task.data} is another setting.
RESOLVER = re.compile(r"\$\{[^}]*:")

PLAIN = "only numbers, strings, lists, tuples and their + and * are evaluated"
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}
MOST_ITEMS = 10_000


class UnsafeSetting(FeedbackError):
    """A setting that would do something."""


def trusted() -> bool:
    """Torch's own variable for those who trust their checkpoints with everything."""
    return os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "0").lower() in ("1", "y", "yes", "true")


# Values


def literal(text):
    """eval() for numbers, strings, lists, tuples, dictionaries and +, - and *: "[(512, 3)] * 20"."""
    if trusted():
        return builtins.eval(text)
    if not isinstance(text, str):
        raise TypeError("only a string is evaluated")  # as eval() says: fairseq's eval_bool waits for it
    try:
        return _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise UnsafeSetting(f"a setting holds {_short(text)}, which was not run: {PLAIN}") from None


def _value(node):
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Mult):
            _check_length(left, right)
            _check_length(right, left)
        return OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    return ast.literal_eval(node)


def _check_length(items, times):
    if hasattr(items, "__len__") and (not isinstance(times, int) or len(items) * times > MOST_ITEMS):
        raise ValueError("not that many times")


def _short(value) -> str:
    text = str(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")


def use_literals() -> None:
    """A module's own `eval` hides Python's from all its functions, whoever imported them by name."""
    for name, module in list(sys.modules.items()):
        if name.startswith("fairseq."):
            module.eval = literal


# Checkpoints


def checked(upgrade):
    """fairseq's function that every loaded checkpoint goes through, with a look at the settings."""

    @wraps(upgrade)
    def _upgrade_state_dict(state):
        check(state)
        state = upgrade(state)
        check(state)  # options of an old checkpoint are written into hydra's language, which may hold more settings
        return state

    return _upgrade_state_dict


def check(state: dict) -> None:
    """Refuse the settings of a checkpoint if one would run, download or overwrite something."""
    if trusted():
        return
    for part in ("args", "cfg"):
        for name, value in _settings(state.get(part)):
            problem = _problem(name, value)
            if problem:
                raise UnsafeSetting(f"its setting {name} {problem}")


def _settings(root):
    """(name, value) of all that is set in containers and namespaces, however deep; an item has its list's name."""
    seen, todo = {}, [("", root)]
    while todo:
        name, value = todo.pop()
        yield name, value
        if OmegaConf.is_config(value):
            value = OmegaConf.to_container(value, resolve=False)
        if isinstance(value, Namespace):
            value = vars(value)
        if id(value) in seen:
            continue
        if isinstance(value, (dict, list, tuple, set)):
            seen[id(value)] = value  # kept, so that nothing else gets its id
            todo += value.items() if isinstance(value, dict) else ((name, item) for item in value)


def _problem(name, value):
    if name == "_target_":
        return f"names code to be called, {_short(value)}"
    if name == WRITTEN and value is not None:
        return f"names a file to be overwritten, {_short(value)}"
    if not isinstance(value, str):
        return None
    if RESOLVER.search(value):
        return f"asks for what is no setting, {_short(value)}"
    if name in DOWNLOADED and "://" in value and not value.startswith(FAIRSEQS_FILES):
        return f"would be downloaded, {_short(value)}"
    if name in EVALUATED and value.strip():
        try:
            literal(value)
        except UnsafeSetting:
            return f"is {_short(value)}: {PLAIN}"
    return None


# What else a stranger's files can reach


class Archive(tarfile.TarFile):
    """Unpacks files and folders, into its own folder only. fairseq then moves what their names begin with."""

    def extractall(self, path=".", **options):
        for member in self.getmembers():
            inside = not os.path.isabs(member.name) and ".." not in member.name.split("/")
            if not inside or not (member.isreg() or member.isdir()):
                raise FeedbackError(
                    f"archive {self.name} was not unpacked: it would write outside its folder ({_short(member.name)})"
                )
        if hasattr(tarfile, "data_filter"):
            options = {"filter": "data", **options}
        super().extractall(path, **options)


def without_signs_of_a_shell(build_index):
    """fairseq finds the lines of a FASTA file by a line of shell that holds the file's name."""

    @wraps(build_index)
    def _build_index(self, path):
        if re.search(r"[^\w@%+=:,./-]", str(path)):
            raise FeedbackError(f"the name {_short(path)} holds signs that a shell acts on: rename the file")
        return build_index(self, path)

    return _build_index


def without_speech(get_prediction):
    """fairseq speaks a translation by code that it downloads: from the repository that the data folder names."""

    @staticmethod
    @wraps(get_prediction)
    def wrapper(*args, synthesize_speech=False, **kwargs):
        if synthesize_speech and not trusted():
            raise FeedbackError("synthesize_speech=True would run code that the data folder names: leave it out")
        return get_prediction(*args, **kwargs, synthesize_speech=synthesize_speech)

    return wrapper
