"""The decoding cache under reorderings of every kind: each row must go on as if it had been alone from the start."""

import pytest
import torch
from helpers import VARIANTS, make_batch, make_dictionary, make_language_model, make_model

from fairseq_feedback.kernels.decoding import cache

pytestmark = pytest.mark.core


def move_beams(rows, beams, g):
    """Rows within each sentence, some twice."""
    first = torch.arange(rows) // beams * beams
    return first + torch.randint(beams, (rows,), generator=g)


def end_sentences(rows, beams, g):
    order = move_beams(rows, beams, g).view(-1, beams)
    kept = torch.rand(len(order), generator=g) < 0.7
    kept[0] = True
    return order[kept].flatten()


def mix_sentences(rows, beams, g):
    return torch.randint(rows, (rows,), generator=g)


def more_rows(rows, beams, g):
    return torch.randint(rows, (rows + beams + 1,), generator=g)


def spread(rows, beams, g):
    return torch.arange(rows).repeat_interleave(2)


def stay(rows, beams, g):
    return torch.arange(rows)


HISTORIES = dict(
    beams=[move_beams] * 8,
    sentences_end=[move_beams, end_sentences, stay, end_sentences, move_beams, end_sentences, move_beams, stay],
    mixed=[move_beams, move_beams, mix_sentences, move_beams, end_sentences, mix_sentences, stay, move_beams],
    grown=[move_beams, more_rows, move_beams, move_beams, stay, more_rows, mix_sentences, stay],
    spread=[spread, move_beams, move_beams, end_sentences, move_beams, mix_sentences, spread, move_beams],
)


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("beams", [1, 2, 3])
@pytest.mark.parametrize("variant", ["plain", "unshared_pre_norm", "span_3", "no_cross_attention"])
def test_every_row_keeps_its_own_past(variant, beams, history):
    dictionary = make_dictionary()
    model = make_model(dictionary=dictionary, **VARIANTS[variant]).double()
    src, lengths, _ = make_batch(dictionary, rows=6)
    follow(model.decoder, dictionary, beams, HISTORIES[history], rows=6, source=(model.encoder, src, lengths))


@pytest.mark.parametrize("history", ["beams", "sentences_end", "mixed"])
@pytest.mark.parametrize("repeat_source", [True, False])
def test_beams_that_begin_as_rows_of_their_own(repeat_source, history):
    """As with fairseq's search, whose first order lets all beams of a sentence go on from its first."""
    dictionary = make_dictionary()
    model = make_model(dictionary=dictionary).double()
    src, lengths, _ = make_batch(dictionary, rows=2)
    source = (model.encoder, src, lengths)
    follow(model.decoder, dictionary, 3, HISTORIES[history], 6, source, begin="equal rows", repeat_source=repeat_source)


@pytest.mark.parametrize(
    "order, copies",
    [
        ([0, 0, 1, 1], 2), ([3, 3, 3], 3), ([0], 1), ([], 1), ([0, 1], 1), ([0, 0, 1], 1), ([0, 1, 0, 1], 1),
        ([0, 0, 1, 1, 1], 1), ([5, 5, 0, 0, 5, 5], 1),
    ],
    ids=str,
)  # fmt: skip
def test_rows_that_go_on_from_the_same_one(order, copies):
    assert cache.copies(torch.tensor(order, dtype=torch.long)) == copies


@pytest.mark.parametrize("options", [{}, dict(adaptive_span=True, adaptive_span_ramp=2)], ids=["fixed", "learned"])
@pytest.mark.parametrize("history", HISTORIES)
def test_relative_positions_with_beams_together(history, options):
    dictionary = make_dictionary()
    model = make_language_model(dictionary=dictionary, memory_span=4, **options).double()
    follow(model.decoder, dictionary, 3, HISTORIES[history], rows=6)


def test_a_moving_window_with_beams_together():
    """Long enough for the slots to be moved to the buffer's start, and for the buffer to grow."""
    dictionary = make_dictionary()
    model = make_model(dictionary=dictionary, memory_span=20).double()
    src, lengths, _ = make_batch(dictionary, rows=6)
    follow(model.decoder, dictionary, 3, [move_beams] * 90, rows=6, source=(model.encoder, src, lengths))


@torch.no_grad()
def follow(decoder, dictionary, beams, history, rows, source=None, begin="one row", repeat_source=False):
    """Decode random words, with a reordering after each, the first for the beams; compare with teacher forcing.

    Before that, one row stands for the beams of a sentence, or all do.
    """
    g = torch.Generator().manual_seed(0)

    def words(n):
        return torch.randint(dictionary.nspecial, len(dictionary), (n, 1), generator=g)

    def to_beams(rows, beams, g):
        if begin == "one row":
            return torch.arange(rows).repeat_interleave(beams)
        return torch.arange(rows) // beams * beams

    sentence = torch.arange(rows // beams)
    whole = encoded(source, sentence)
    if begin != "one row":
        sentence = sentence.repeat_interleave(beams)
    if repeat_source:
        whole = source[0].reorder_encoder_out(whole, sentence)
    state, tokens = {}, words(len(sentence))
    for reorder in [to_beams, *history, stay]:
        got, extra = decoder(tokens, encoder_out=whole, incremental_state=state)
        want, forced = decoder(tokens, encoder_out=encoded(source, sentence))
        torch.testing.assert_close(got[:, -1], want[:, -1])
        if extra["attn"][0] is not None:
            torch.testing.assert_close(extra["attn"][0][:, -1], forced["attn"][0][:, -1])
        together = beams if reorder is to_beams or len(tokens) % beams == 0 else 1
        order = reorder(len(tokens), together, g)
        decoder.reorder_incremental_state_scripting(state, order)
        if reorder is to_beams:
            assert cache.beams_together(next(iter(state.values()))) == beams
        sentence = sentence[order]
        tokens = torch.cat([tokens[order], words(len(order))], dim=1)


def encoded(source, rows):
    if source is None:
        return None
    encoder, src, lengths = source
    return encoder(src[rows], lengths[rows])


def test_beams_of_a_sentence_are_not_copied():
    dictionary = make_dictionary()
    model = make_model(dictionary=dictionary)
    src, lengths, _ = make_batch(dictionary, rows=2)
    state, tokens = {}, torch.full((2, 1), dictionary.eos())
    whole = model.encoder(src, lengths)
    model.decoder(tokens, encoder_out=whole, incremental_state=state)
    model.decoder.reorder_incremental_state(state, torch.tensor([0, 0, 0, 1, 1, 1]))
    ((_, buffers),) = state.items()
    filled = buffers["keys"][:, :, :, : 3 * 2]  # the slot of zeros and that of the first step
    place, before = filled.data_ptr(), filled.clone()
    assert cache.beams_together(buffers) == 3 and buffers["keys"].size(1) == 2
    model.decoder.reorder_incremental_state(state, torch.tensor([1, 1, 0, 5, 4, 4]))
    assert buffers["keys"].data_ptr() == place and torch.equal(filled, before)


def test_a_source_with_a_row_for_each_sentence():
    dictionary = make_dictionary()
    model = make_model(dictionary=dictionary).double()
    src, lengths, _ = make_batch(dictionary, rows=2)
    tokens = torch.randint(dictionary.nspecial, len(dictionary), (6, 5), generator=torch.Generator().manual_seed(3))
    repeated = model.encoder(src.repeat_interleave(3, 0), lengths.repeat_interleave(3, 0))
    want, _ = model.decoder(tokens, encoder_out=repeated)
    got, _ = model.decoder(tokens, encoder_out=model.encoder(src, lengths), incremental_state={})
    torch.testing.assert_close(got, want)


def test_a_beam_that_overflows_leaves_the_others_alone():
    dictionary = make_dictionary()
    model = make_model(dictionary=dictionary).half()
    src, lengths, _ = make_batch(dictionary, rows=1)
    state, tokens = {}, torch.full((1, 1), dictionary.eos())
    whole = model.encoder(src, lengths)
    with torch.no_grad():
        want, _ = model.decoder(tokens, encoder_out=whole, incremental_state={})
        model.decoder(tokens, encoder_out=whole, incremental_state=state)
        model.decoder.reorder_incremental_state(state, torch.tensor([0, 0, 0]))
        ((_, buffers),) = state.items()
        cache.append(buffers, *[torch.full((1, 3, 2, 1, 8), float("inf")).half()] * 2, model.decoder.settings(0, 1))
    assert want.isfinite().all() and buffers["keys"][:, :, :, :9].isfinite().all()
