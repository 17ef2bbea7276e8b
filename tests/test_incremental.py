"""Decoding through the cache gives what teacher forcing gives for the same tokens."""

import pytest
import torch
from helpers import VARIANTS, make_batch, make_dictionary, make_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairseq_feedback.kernels.decoding import cache
from fairseq_feedback.models.feedback_transformer import ARCHITECTURES

pytestmark = pytest.mark.core

# The options that change what is cached or which part of it is read.
CACHING = ["plain", "pre_norm", "unshared", "unshared_pre_norm", "span_1", "span_3_unshared"]
CACHING += ["no_cross_attention", "learned_positions", "three_layers_layerdrop", "recurrent", "own_pre_norm"]


def encode(model, src, lengths):
    with torch.no_grad():
        return model.encoder(src, src_lengths=lengths)


def run(decoder, tokens, encoder_out, state=None):
    """Logits (B, T, V), attention (B, T, S), memory (B, T, C) of the tokens not in `state`."""
    with torch.no_grad():
        logits, extra = decoder(tokens, encoder_out=encoder_out, incremental_state=state)
    return logits, extra["attn"][0], extra["memory"][0].transpose(0, 1)


def run_in_chunks(decoder, tokens, encoder_out, ends):
    """The same for tokens that arrive in pieces, up to ends[0], then up to ends[1], ..."""
    state = {}
    parts = [run(decoder, tokens[:, :end], encoder_out, state) for end in ends]
    return tuple(None if p[0] is None else torch.cat(p, dim=1) for p in zip(*parts))


def assert_same(got, want, words=None, atol=1e-9):
    """words: (B, T), what is compared; the outputs of padding are nobody's business."""
    for a, b in zip(got, want):
        assert (a is None) == (b is None)
        if a is not None:
            if words is not None:
                a, b = a[words], b[words]
            torch.testing.assert_close(a, b, rtol=atol, atol=atol)


def buffers(state):
    """The one cache that an incremental state of our decoder holds."""
    (state,) = state.values()
    return state


def random_ends(steps, generator, first=1):
    """Ends of random pieces of `steps` tokens, the first piece of at least `first`."""
    cuts = torch.rand(steps, generator=generator) < 0.4
    return [t for t in range(first, steps) if cuts[t]] + [steps]


def assert_pieces_are_teacher_forcing(model, dictionary, *pieces, atol=1e-9, **batch):
    """pieces: for each time that the batch is decoded, where the tokens of each call end."""
    src, lengths, prev = make_batch(dictionary, **batch)
    encoder_out = encode(model, src, lengths)
    want = run(model.decoder, prev, encoder_out)
    for ends in pieces:
        got = run_in_chunks(model.decoder, prev, encoder_out, ends)
        assert_same(got, want, prev.ne(dictionary.pad()), atol=atol)


ONE_BY_ONE = range(1, 10)  # all of the 9 tokens that make_batch gives


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_token_at_a_time(variant):
    dictionary = make_dictionary()
    model = make_model(dictionary=dictionary, **VARIANTS[variant]).double()
    assert_pieces_are_teacher_forcing(model, dictionary, ONE_BY_ONE)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_one_token_at_a_time_of_every_architecture(arch):
    dictionary = make_dictionary()
    model = make_model(arch, dictionary)
    assert_pieces_are_teacher_forcing(model, dictionary, ONE_BY_ONE, atol=1e-5)


@pytest.mark.parametrize("left_pad", [False, True], ids=["right_pad", "left_pad"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_prompt_then_pieces(variant, left_pad):
    dictionary = make_dictionary()
    model = make_model(dictionary=dictionary, **VARIANTS[variant]).double()
    generator = torch.Generator().manual_seed(5)
    pieces = [random_ends(12, generator, first) for first in (3, 3, 5, 12)]
    assert_pieces_are_teacher_forcing(model, dictionary, *pieces, target=12, left_pad_target=left_pad)


@pytest.mark.parametrize("variant", ["plain", "span_3", "learned_positions"])
def test_left_padding_that_arrives_in_pieces(variant):
    # The rows are padded by none, one, two and three tokens, and the first call sees one or two.
    dictionary = make_dictionary()
    model = make_model(dictionary=dictionary, **VARIANTS[variant]).double()
    pieces = [1, 2, 3, 9], [2, 3, 9], ONE_BY_ONE
    assert_pieces_are_teacher_forcing(model, dictionary, *pieces, rows=4, left_pad_target=True)


def test_several_zero_slots():
    dictionary = make_dictionary()
    for span in (0, 2):
        model = make_model(dictionary=dictionary, memory_span=span).double()
        model.decoder.memory_init_slots = 3
        assert_pieces_are_teacher_forcing(model, dictionary, [4, 5, 6, 9], left_pad_target=True)


@pytest.mark.parametrize("left_pad", [False, True], ids=["right_pad", "left_pad"])
@pytest.mark.parametrize("variant", CACHING)
def test_a_row_does_not_see_the_rows_beside_it(variant, left_pad):
    dictionary = make_dictionary()
    model = make_model(dictionary=dictionary, **VARIANTS[variant]).double()
    src, lengths, prev = make_batch(dictionary, rows=4, left_pad_target=left_pad)
    encoder_out = encode(model, src, lengths)
    together = run_in_chunks(model.decoder, prev, encoder_out, [4, 5, 6, 7, 8, 9])
    for row in range(4):
        words = prev[row].ne(dictionary.pad())
        own_tokens = prev[row : row + 1, words]
        own_source = src[row : row + 1, : lengths[row]]
        own_encoder_out = encode(model, own_source, lengths[row : row + 1])
        logits, attn, memory = run_in_chunks(
            model.decoder, own_tokens, own_encoder_out, range(1, own_tokens.size(1) + 1)
        )
        assert_same((together[0][row, words], together[2][row, words]), (logits[0], memory[0]))
        if attn is not None:
            attn_together = together[1][row, words]
            assert_same((attn_together[:, : lengths[row]],), (attn[0],))
            assert not attn_together[:, lengths[row] :].any()


def any_order(rows, beams, generator):
    """Rows picked anyhow: repeats, drops, fewer rows than before or more."""
    wanted = int(torch.randint(1, 9, (), generator=generator))
    return torch.randint(rows, (wanted,), generator=generator)


def beam_order(rows, beams, generator):
    """What beam search does: rows move within their sentence, and sentences leave."""
    sentences = rows // beams
    kept = torch.rand(sentences, generator=generator) < 0.85
    kept[int(torch.randint(sentences, (), generator=generator))] = True
    first = torch.arange(sentences)[kept] * beams
    picks = torch.randint(beams, (len(first), beams), generator=generator)
    return (first[:, None] + picks).view(-1)


def sentence_order(rows, beams, generator):
    """Whole sentences change places, or take another's."""
    sentences = rows // beams
    picks = torch.randint(sentences, (sentences,), generator=generator)
    return (picks[:, None] * beams + torch.arange(beams)).view(-1)


@pytest.mark.parametrize("left_pad", [False, True], ids=["no_pad", "left_pad"])
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("draw", [any_order, beam_order, sentence_order])
@pytest.mark.parametrize("variant", CACHING)
def test_rows_are_permuted_dropped_and_repeated(variant, draw, beams, left_pad):
    dictionary = make_dictionary()
    model = make_model(dictionary=dictionary, **VARIANTS[variant]).double()
    decoder = model.decoder
    sentences = 4
    src, lengths, _ = make_batch(dictionary, rows=sentences)
    plain_encoder_out = encode(model, src, lengths)
    sentence = torch.arange(sentences)
    _, _, tokens = make_batch(dictionary, len(sentence), target=4, ragged=False)
    if left_pad:
        pads = torch.arange(len(sentence)) % 3
        tokens[torch.arange(4)[None, :] < pads[:, None]] = dictionary.pad()
    generator = torch.Generator().manual_seed(3)
    state = {}
    for step in range(11):
        got = run(decoder, tokens, plain_encoder_out, state)
        # The truth has every row's own history and source, and no beams to share anything.
        rightful = model.encoder.reorder_encoder_out(plain_encoder_out, sentence)
        want = run(decoder, tokens, rightful)
        new = got[0].size(1)
        words = tokens[:, -new:].ne(dictionary.pad())
        assert_same(got, [None if w is None else w[:, -new:] for w in want], words)
        if step > 0 and decoder.layers[0].encoder_attn is not None and draw is not any_order:
            assert buffers(state)["cross_keys"].size(1) == len(sentence) // beams

        if step == 0:  # from here on a sentence has its beams
            order = torch.arange(sentences).repeat_interleave(beams)
        else:
            order = draw(len(sentence), beams, generator)
        decoder.reorder_incremental_state_scripting(state, order)
        sentence = sentence[order]
        new_tokens = torch.randint(dictionary.nspecial, len(dictionary), (len(order), 1), generator=generator)
        tokens = torch.cat([tokens[order], new_tokens], dim=1)


def test_reordering_no_state_is_no_error():
    # fairseq's generators reorder whenever a beam moved, even for a decoder that has not run.
    state = {}
    make_model().decoder.reorder_incremental_state(state, torch.tensor([1, 0]))
    assert state == {}


def test_memory_is_written_in_place():
    dictionary = make_dictionary()
    model = make_model(dictionary=dictionary)
    src, lengths, prev = make_batch(dictionary, target=31, ragged=False)
    encoder_out = encode(model, src, lengths)
    state = {}
    places = set()
    for t in range(1, 32):
        run(model.decoder, prev[:, :t], encoder_out, state)
        filled = buffers(state)
        places.add((filled["keys"].data_ptr(), filled["values"].data_ptr()))
        assert filled["cross_keys"] is not None and cache.steps_done(filled) == t
    assert len(places) == 1
    # Reordering moves the past within the same buffers as long as the rows do not become more.
    for order in ([2, 0, 1], [0, 1]):
        model.decoder.reorder_incremental_state(state, torch.tensor(order))
        filled = buffers(state)
        places.add((filled["keys"].data_ptr(), filled["values"].data_ptr()))
    assert len(places) == 1


@pytest.mark.parametrize("variant", ["plain", "unshared_pre_norm"])
def test_cache_grows_past_its_first_capacity(variant):
    dictionary = make_dictionary()
    model = make_model(dictionary=dictionary, **VARIANTS[variant]).double()
    src, lengths, prev = make_batch(dictionary, target=100, ragged=False)
    encoder_out = encode(model, src, lengths)
    want = run(model.decoder, prev, encoder_out)
    state = {}
    capacities = []
    for t in range(1, 101):
        got = run(model.decoder, prev[:, :t], encoder_out, state)
        assert_same(got, [w[:, t - 1 : t] for w in want])
        capacities.append(buffers(state)["keys"].size(3))
    # Doubling: few copies, and at most twice of what is needed.
    assert all(after in (before, 2 * before) for before, after in zip(capacities, capacities[1:]))
    assert capacities[0] < 100 < capacities[-1] <= 2 * 101
    assert buffers(state)["values"].size(3) == capacities[-1]


@pytest.mark.parametrize("span", [3, 20])
def test_cache_with_a_span_stays_small(span):
    dictionary = make_dictionary()
    model = make_model(dictionary=dictionary, memory_span=span, decoder_layers=1).double()
    src, lengths, prev = make_batch(dictionary, rows=2, target=500, ragged=False)
    encoder_out = encode(model, src, lengths)
    want = run(model.decoder, prev, encoder_out)
    state = {}
    for t in range(1, 501):
        got = run(model.decoder, prev[:, :t], encoder_out, state)
        assert_same(got, [w[:, t - 1 : t] for w in want])
        assert buffers(state)["keys"].size(3) <= max(32, 4 * span)
    assert cache.steps_done(buffers(state)) == 500


@pytest.mark.parametrize("options", [{}, dict(memory_span=5)], ids=["all", "span_5"])
def test_a_prompt_longer_than_the_first_capacity(options):
    dictionary = make_dictionary()
    model = make_model(dictionary=dictionary, **options).double()
    src, lengths, prev = make_batch(dictionary, target=80, left_pad_target=True)
    encoder_out = encode(model, src, lengths)
    want = run(model.decoder, prev, encoder_out)
    got = run_in_chunks(model.decoder, prev, encoder_out, [70, 71, 80])
    assert_same(got, want, prev.ne(dictionary.pad()))


def test_no_new_token_is_an_error_that_leaves_the_state_alone():
    dictionary = make_dictionary()
    model = make_model(dictionary=dictionary).double()
    src, lengths, prev = make_batch(dictionary, ragged=False)
    encoder_out = encode(model, src, lengths)
    want = run(model.decoder, prev, encoder_out)
    state = {}
    run(model.decoder, prev[:, :4], encoder_out, state)
    for too_few in (4, 1):
        with pytest.raises(ValueError, match="already holds 4 tokens, prev_output_tokens has"):
            run(model.decoder, prev[:, :too_few], encoder_out, state)
    got = run(model.decoder, prev[:, :5], encoder_out, state)
    assert_same(got, [w[:, 4:5] for w in want])


def test_two_states_of_one_decoder_do_not_meet():
    dictionary = make_dictionary()
    model = make_model(dictionary=dictionary).double()
    samples = [make_batch(dictionary, seed=seed, ragged=False) for seed in (1, 2)]
    encoder_outs = [encode(model, src, lengths) for src, lengths, _ in samples]
    states = [{}, {}]
    for t in range(1, 10):
        for (_, _, prev), encoder_out, state in zip(samples, encoder_outs, states):
            got = run(model.decoder, prev[:, :t], encoder_out, state)
            want = run(model.decoder, prev[:, :t], encoder_out)
            assert_same(got, [w[:, -1:] for w in want])


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_sizes_and_options(data):
    heads = data.draw(st.sampled_from([1, 2, 4]), "heads")
    dim = heads * data.draw(st.sampled_from([4, 6]), "head width")
    rows = data.draw(st.integers(1, 4), "rows")
    target = data.draw(st.integers(4, 14), "target")
    dictionary = make_dictionary(data.draw(st.integers(1, 40), "words"))
    model = make_model(
        dictionary=dictionary,
        seed=data.draw(st.integers(0, 99), "seed"),
        encoder_embed_dim=data.draw(st.sampled_from([dim, 8]), "encoder width"),
        decoder_embed_dim=dim,
        decoder_attention_heads=heads,
        decoder_layers=data.draw(st.integers(1, 3), "layers"),
        decoder_normalize_before=data.draw(st.booleans(), "pre-norm"),
        unshared_memory_kv=data.draw(st.booleans(), "unshared"),
        memory_span=data.draw(st.integers(0, 5), "span"),
        no_cross_attention=data.draw(st.booleans(), "no cross-attention"),
        decoder_learned_pos=data.draw(st.booleans(), "learned positions"),
        no_token_positional_embeddings=data.draw(st.booleans(), "no positions"),
        layernorm_embedding=data.draw(st.booleans(), "embedding norm"),
    ).double()
    model.decoder.memory_init_slots = data.draw(st.integers(1, 3), "zero slots")
    src, lengths, prev = make_batch(
        dictionary,
        rows,
        source=data.draw(st.integers(2, 8), "source"),
        target=target,
        ragged=data.draw(st.booleans(), "ragged"),
        left_pad_target=data.draw(st.booleans(), "left padding"),
    )
    encoder_out = encode(model, src, lengths)
    want = run(model.decoder, prev, encoder_out)
    ends = data.draw(st.sets(st.integers(4, target)), "ends")
    got = run_in_chunks(model.decoder, prev, encoder_out, sorted(ends | {target}))
    assert_same(got, want, prev.ne(dictionary.pad()))
