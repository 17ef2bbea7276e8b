"""Two implementations of one thing, options drawn at random: searches of ours and fairseq, kernels and the reference.

A few trials by default; with `-m slow` hundreds. FEEDBACK_TRIALS=5000 sets how many those are.
"""

import os

import pytest
import torch
from fairseq.sequence_generator import SequenceGenerator
from generation import assert_same_hypos, generate, make_ending_model, make_sample
from helpers import VARIANTS, make_dictionary
from hypothesis import given, settings
from hypothesis import strategies as st
from problem import Problem
from test_bptt import compare

from fairseq_feedback.kernels.training import bptt, parallel

pytestmark = pytest.mark.core

DICTIONARY = make_dictionary()
FEW = settings(max_examples=25, deadline=None, derandomize=True)
MANY = settings(max_examples=int(os.environ.get("FEEDBACK_TRIALS", 500)), deadline=None, print_blob=True)
WORD = st.integers(DICTIONARY.nspecial, len(DICTIONARY) - 1)


@st.composite
def searches(draw):
    """(models, sample, options, inputs): what a search gets."""
    names = st.sampled_from([name for name in VARIANTS if name not in ("dropouts", "three_layers_layerdrop")])
    seeds = st.integers(0, 50)
    models = [
        make_ending_model(DICTIONARY, variant, seed=draw(seeds))
        for variant in draw(st.lists(names, min_size=1, max_size=2))
    ]
    rows, longest = draw(st.integers(1, 5)), draw(st.integers(1, 14))
    sample = make_sample(DICTIONARY, rows, draw(st.integers(2, 9)), draw(st.booleans()), draw(seeds))
    options = dict(
        beam_size=draw(st.integers(1, 7)),
        max_len_a=draw(st.sampled_from([0, 0.5, 1.2])),
        max_len_b=longest,
        min_len=draw(st.integers(0, longest)),
        normalize_scores=draw(st.booleans()),
        len_penalty=draw(st.floats(-1, 3)),
        unk_penalty=draw(st.sampled_from([0.0, 3.0, -3.0])),
        temperature=draw(st.floats(0.5, 2)),
        no_repeat_ngram_size=draw(st.sampled_from([0, 0, 1, 2, 3])),
    )
    inputs = {}
    if draw(st.booleans()):
        length = draw(st.integers(1, min(3, longest)))
        given = draw(st.lists(st.lists(WORD, min_size=length, max_size=length), min_size=rows, max_size=rows))
        known = draw(st.lists(st.integers(0, length), min_size=rows, max_size=rows))
        pad = DICTIONARY.pad()
        inputs["prefix_tokens"] = torch.tensor([row[:n] + [pad] * (length - n) for row, n in zip(given, known)])
    if draw(st.booleans()):
        inputs["bos_token"] = draw(WORD)
    return models, sample, options, inputs


def compare_searches(drawn):
    models, sample, options, inputs = drawn
    found = []
    for kind in (SequenceGenerator, None):
        more = {} if kind is None else {"generator": kind}
        try:
            found.append(generate(models, DICTIONARY, sample, inputs=dict(inputs), **options, **more))
        except (AssertionError, RuntimeError, ValueError):  # where every word is forbidden
            found.append(None)
    assert (found[0] is None) == (found[1] is None)
    if found[0] is not None:
        assert_same_hypos(found[1], found[0])


@FEW
@given(searches())
def test_search(drawn):
    compare_searches(drawn)


@pytest.mark.slow
@MANY
@given(searches())
def test_search_many(drawn):
    compare_searches(drawn)


@st.composite
def problems(draw, own):
    steps, rows, layers = draw(st.integers(1, 12)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    shared, reach, seed = draw(st.booleans()) and not own, draw(st.sampled_from([0, 31])), draw(st.integers(0, 10**6))
    p = Problem(
        steps, rows, 8, draw(st.sampled_from([1, 2, 4])), 5, layers, draw(st.sampled_from([0, 1, 6])), shared,
        draw(st.booleans()), draw(st.sampled_from([0, 1, 4])), draw(st.integers(0 if own else 1, 5)), scale=0.3,
        p=draw(st.sampled_from([(0.0, 0.0, 0.0), (0.3, 0.2, 0.1)])), seed=seed, reach=reach,
        activation=draw(st.sampled_from(["relu", "gelu", "tanh", "gelu_accurate", "linear"])),
        ramp=draw(st.sampled_from([None, 4])) if reach else None, head_width=draw(st.sampled_from([None, 3, 6])),
        composition="own" if own else draw(st.sampled_from(["weighted", "top", "layer:0"])),
    )  # fmt: skip
    torch.manual_seed(seed)
    if draw(st.booleans()):
        p.draw_dropout()
    if draw(st.booleans()):
        p.left_pad = torch.tensor(draw(st.lists(st.integers(0, steps - 1), min_size=rows, max_size=rows)))
    p.layer_kept = draw(st.lists(st.booleans(), min_size=layers, max_size=layers))
    return p


@FEW
@given(problems(own=False), st.booleans())
def test_gradients(p, use_memory):
    compare(p, 1e-8, bptt, use_memory)


@FEW
@given(problems(own=True), st.booleans())
def test_gradients_of_all_steps_at_once(p, use_memory):
    compare(p, 1e-8, parallel, use_memory)


@pytest.mark.slow
@MANY
@given(problems(own=False), problems(own=True), st.booleans())
def test_gradients_many(p, q, use_memory):
    compare(p, 1e-8, bptt, use_memory)
    compare(q, 1e-8, parallel, use_memory)
