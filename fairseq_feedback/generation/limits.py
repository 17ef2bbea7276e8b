"""Options of a search that no search can obey, refused before one begins, for all models."""

import math
from numbers import Real

from fairseq_feedback.errors import FeedbackError

LEAST = {"beam": 1, "nbest": 1, "min_len": 0, "max_len_a": 0, "no_repeat_ngram_size": 0, "prefix_size": 0}
FINITE = ("lenpen", "unkpen", "temperature", "max_len_a", "max_len_b", "diversity_rate", "diverse_beam_strength")
MOST_LENPEN = 10  # a length to that power is a number of float32
MOST_BONUS = 1000  # of a word: more drowns what the model says in roundings


def check(options, vocabulary=math.inf) -> None:
    """`options`: of the generation, as fairseq's tasks get them; vocabulary: its size, if that is known."""

    def get(name, default):
        value = getattr(options, name, default)
        return value if isinstance(value, Real) else default

    for name in FINITE:
        if not math.isfinite(get(name, 0)):
            _refuse(f"{_flag(name)} {get(name, 0)}", "give a number")
    if abs(get("lenpen", 1)) > MOST_LENPEN:
        _refuse(f"--lenpen {get('lenpen', 1)}", f"give a number from -{MOST_LENPEN} to {MOST_LENPEN}")
    if get("unkpen", 0) < -MOST_BONUS:
        _refuse(f"--unkpen {get('unkpen', 0)}", f"give at least -{MOST_BONUS}")
    for name, least in LEAST.items():
        if get(name, least) < least:
            _refuse(f"{_flag(name)} {get(name, least)}", f"give at least {least}")
    if get("temperature", 1) <= 0:
        _refuse(f"--temperature {get('temperature', 1)}", "give more than 0")
    beam, nbest = get("beam", 5), get("nbest", 1)
    if nbest > beam:
        _refuse(f"--nbest {nbest} is more than --beam {beam}", "a search has no more hypotheses than that")
    groups = get("diverse_beam_groups", -1)
    if groups > 0 and beam % groups:
        _refuse(f"--diverse-beam-groups {groups}", f"--beam {beam} must be a multiple of it")
    if get("diversity_rate", -1) > 0 and 2 * beam > vocabulary:
        _refuse(f"--diversity-rate with --beam {beam}", f"of {vocabulary:,} words at most half go on from a beam")
    sampling = getattr(options, "sampling", False)
    searches = {"--sampling": sampling, "--match-source-len": getattr(options, "match_source_len", False),
                "--diverse-beam-groups": groups > 0, "--diversity-rate": get("diversity_rate", -1) > 0}  # fmt: skip
    chosen = [name for name, given in searches.items() if given]
    if len(chosen) > 1:
        _refuse(" and ".join(chosen), "give one of them")
    k = get("sampling_topk", -1)
    _check_sampling(sampling, k, get("sampling_topp", -1))
    if k > vocabulary:
        _refuse(f"--sampling-topk {k}", f"the vocabulary has {vocabulary:,} words")


def check_command(options) -> None:
    """`options`: of fairseq-generate or fairseq-interactive. In Python one hypothesis of several may be drawn."""
    check(options)
    if options.sampling and options.nbest != options.beam:
        _refuse(f"--sampling with --nbest {options.nbest} and --beam {options.beam}", "they must be equal")
    joins_later = hasattr(options, "chunk_lines")  # our translate
    if options.replace_unk is not None and options.post_process and not joins_later:
        mend = "fairseq would look for pieces of words among words. fairseq-feedback translate can do both"
        _refuse(f"--replace-unk with --post-process {options.post_process}", mend)


def _check_sampling(sampling, k, p) -> None:
    if not sampling:
        for name, value in (("sampling-topk", k), ("sampling-topp", p)):
            if value >= 0:
                _refuse(f"--{name} {value}", "it needs --sampling")
    elif k == 0:
        _refuse("--sampling-topk 0", "give at least 1")
    elif p == 0 or p > 1:
        _refuse(f"--sampling-topp {p}", "give more than 0, and 1 at most")


def _flag(name) -> str:
    return "--" + name.replace("_", "-")


def _refuse(what, mend) -> None:
    raise FeedbackError(f"{what}: {mend}")
