"""The commands that users type, from a checkpoint to translations."""

import math

import cli
import pytest
import torch
from trained import assert_same_hypotheses, generate, load_model, references, sources, train

from fairseq_feedback.models.feedback_transformer import FeedbackTransformerModel

pytestmark = pytest.mark.core


def test_layerdrop_and_pruning(made):
    more = ["--decoder-layers", 3, "--decoder-layerdrop", 0.5, "--encoder-layerdrop", 0.2]
    losses = cli.losses(train(made, "layerdrop", *more, updates=30).stdout)
    assert losses[-1] < losses[0] - 0.5
    path = made.folder / "layerdrop" / "checkpoint_last.pt"
    whole = generate(made, "--score-reference", path=path)
    overrides = "{'encoder_layers_to_keep': '0', 'decoder_layers_to_keep': '0'}"
    pruned = generate(made, "--score-reference", "--model-overrides", overrides, path=path)
    assert cli.best(pruned.stdout) != cli.best(whole.stdout)
    # A pruned layer is one that is dropped every time.
    scores = forced_scores(made, path, references(made), kept=[True, False, False])
    for i, positions in cli.position_scores(pruned.stdout).items():
        assert positions == pytest.approx(scores[i], abs=2e-4)


def forced_scores(made, path, translations, kept=None):
    """log2 probabilities of given translations' words and ends, by teacher forcing."""
    model, task = load_model(path, data=str(made.data))
    if kept is not None:
        model.decoder.draw_layers = lambda: kept
    scores = {}
    for i, pair in enumerate(zip(sources(made), translations)):
        source, target = encode(task, *pair)
        with torch.no_grad():
            net_output = model(source[None], torch.tensor([len(source)]), target.roll(1)[None])
            probs = model.get_normalized_probs(net_output, log_probs=True)[0]
        scores[i] = [probs[t, word].item() / math.log(2) for t, word in enumerate(target)]
    return scores


def encode(task, source, target):
    """A pair of sentences as numbers, each with the end at its end."""
    return (
        task.source_dictionary.encode_line(source, add_if_not_exist=False).long(),
        task.target_dictionary.encode_line(target, add_if_not_exist=False).long(),
    )


def test_generation(made):
    found = cli.best(made.generation)
    assert sorted(found) == list(range(8))
    lengths = {len(text.split()) for _, text in found.values()}
    assert len(lengths) > 1  # or the tests below would not see much
    scores = forced_scores(made, made.checkpoint, [found[i][1] for i in range(8)])
    for i, positions in cli.position_scores(made.generation).items():
        score, text = found[i]
        assert positions == pytest.approx(scores[i], abs=2e-4)
        assert score == pytest.approx(sum(positions) / len(positions), abs=2e-4)
    assert "Generate test with beam=5: BLEU" in cli.last_line(made.generation)


def test_score_reference(made):
    stdout = generate(made, "--score-reference").stdout
    assert {i: text for i, (_, text) in cli.best(stdout).items()} == dict(enumerate(references(made)))
    scores = forced_scores(made, made.checkpoint, references(made))
    for i, positions in cli.position_scores(stdout).items():
        assert positions == pytest.approx(scores[i], abs=2e-4)


@pytest.mark.parametrize(
    "more",
    [["--batch-size", 1], ["--batch-size", 8], ["--max-tokens", 20, "--batch-size", 100]],
    ids=["1", "8", "tokens"],
)
def test_batches_do_not_matter(made, more):
    got = generate(made, *more)
    assert_same_hypotheses(cli.best(got.stdout), cli.best(made.generation))


def test_prefix(made):
    found = cli.best(generate(made, "--prefix-size", 1).stdout)
    free = cli.best(made.generation)
    wanted = [text.split()[0] for text in references(made)]
    assert [found[i][1].split()[0] for i in range(8)] == wanted
    assert [free[i][1].split()[0] for i in range(8)] != wanted


def test_sampling(made):
    def sample(*more):
        return generate(made, "--sampling", "--beam", 1, *more).stdout

    greedy = cli.best(generate(made, "--beam", 1).stdout)
    assert_same_hypotheses(cli.best(sample("--sampling-topk", 1)), greedy)
    assert_same_hypotheses(cli.best(sample("--sampling-topp", 1e-4)), greedy)
    free = [cli.texts(sample("--sampling-topk", 5, "--seed", seed)) for seed in (1, 1, 2)]
    assert free[0] == free[1] != free[2]


def test_diverse_beams(made):
    def search(groups):
        # In one batch: fairseq's diverse search fails if the test set is several.
        more = ["--batch-size", 8, "--nbest", 5, "--diverse-beam-groups", groups]
        return generate(made, *more).stdout

    alike, diverse = cli.texts(search(1)), cli.texts(search(5))
    assert all(len(found) == 5 for found in (*alike.values(), *diverse.values()))
    assert alike != diverse


def test_no_repeated_ngrams(made):
    more = ["--min-len", 9, "--no-repeat-ngram-size", 2]
    for _, text in cli.best(generate(made, *more).stdout).values():
        words = text.split()
        pairs = list(zip(words, words[1:]))
        assert len(set(pairs)) == len(pairs)


def test_half_precision_generation(made):
    exact = cli.best(generate(made, "--score-reference").stdout)
    half = cli.best(generate(made, "--score-reference", "--fp16").stdout)
    assert_same_hypotheses(half, exact, tolerance=0.02)
    assert half != exact
    assert len(cli.best(generate(made, "--fp16").stdout)) == 8


def test_alignment(made):
    stdout = generate(made, "--print-alignment", "hard").stdout
    assert_same_hypotheses(cli.best(stdout), cli.best(made.generation))
    model, task = load_model(made.checkpoint, data=str(made.data))
    for i, ((pairs,),) in cli.hypotheses(stdout, "A").items():
        source, target = encode(task, sources(made)[i], cli.best(stdout)[i][1])
        with torch.no_grad():
            _, extra = model(source[None], torch.tensor([len(source)]), target.roll(1)[None])
        attn = extra["attn"][0][0]
        # Word t is aligned with what the step that wrote it looked at most, the ends left out.
        assert [tuple(map(int, pair.split("-"))) for pair in pairs.split()] == [
            (attn[t, : len(source) - 1].argmax().item(), t) for t in range(len(target) - 1)
        ]


def test_dropout_at_test_time(made):
    def score(*more):
        return cli.best(generate(made, "--score-reference", *more).stdout)

    plain = score()
    dropped = [score("--retain-dropout", "--seed", seed) for seed in (1, 2)]
    assert plain != dropped[0] != dropped[1]
    modules = ["--retain-dropout", "--retain-dropout-modules", "FeedbackDecoderLayer"]
    assert score(*modules) not in [plain, *dropped]
    assert len(cli.best(generate(made, *modules).stdout)) == 8


def test_ensembles(made, transformer):
    twice = generate(made, path=f"{made.checkpoint}:{made.checkpoint}")
    assert_same_hypotheses(cli.best(twice.stdout), cli.best(made.generation))
    train(made, "second", "--seed", 2, "--unshared-memory-kv", updates=10)
    first = forced_scores(made, made.checkpoint, references(made))
    for other in (made.folder / "second" / "checkpoint_last.pt", transformer):
        second = forced_scores(made, other, references(made))
        path = f"{made.checkpoint}:{other}"
        both = generate(made, "--score-reference", path=path)
        for i, positions in cli.position_scores(both.stdout).items():
            mean = [math.log2((2**p + 2**q) / 2) for p, q in zip(first[i], second[i])]
            assert positions == pytest.approx(mean, abs=3e-4)
        assert len(cli.best(generate(made, path=path).stdout)) == 8


def test_interactive(made):
    flags = cli.generate_flags(made.data, made.checkpoint, "--buffer-size", 4)
    stdin = "".join(line + "\n" for line in sources(made))
    stdout = cli.run("interactive", *flags, stdin=stdin, log=made.log).stdout
    assert_same_hypotheses(cli.best(stdout), cli.best(made.generation))


@pytest.mark.parametrize("kind", ["ordered", "unordered"])
def test_constraints(made, kind):
    wanted = [("DU", "BE"), ("GA", "BI")]
    stdin = "".join("\t".join((s, *w)) + "\n" for s, w in zip(sources(made), wanted))
    flags = cli.generate_flags(made.data, made.checkpoint, "--constraints", kind)
    flags += ["--buffer-size", 4]
    stdout = cli.run("interactive", *flags, stdin=stdin, log=made.log).stdout
    for i, words in enumerate(wanted):
        text = cli.best(stdout)[i][1].split()
        assert set(words) <= set(text)
        if kind == "ordered":
            assert words[1] in text[text.index(words[0]) :]


def test_from_pretrained(made):
    hub = FeedbackTransformerModel.from_pretrained(
        str(made.checkpoint.parent), made.checkpoint.name, data_name_or_path=str(made.data)
    )
    got = hub.translate(sources(made), beam=5, max_len_b=10)
    assert got == [cli.best(made.generation)[i][1] for i in range(8)]


@pytest.mark.parametrize(
    "command, more, names",
    [
        ("train", ["--arch", "feedback_transformer"], ["--memory-composition", "--encoder-layers", "--update-freq"]),
        ("train", ["--task=feedback_lm", "--arch=feedback_transformer_lm", "--optimizer", "adam"],
         ["--memory-span", "--random-offset", "--adam-betas"]),
        ("train", [], ["--arch", "--update-freq"]),
        ("generate", [], ["--beam", "--decode-int8"]),
    ],
)  # fmt: skip
def test_help_has_the_options_of_what_is_chosen(made, command, more, names):
    for flag in ("--help", "-h"):
        done = cli.run(command, "--user-dir", cli.PACKAGE, *more, flag, log=made.log)
        assert all(f"\n  {name}" in done.stdout for name in names)
        assert ("--memory-span" in done.stdout) == bool(more)
