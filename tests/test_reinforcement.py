"""examples/reinforcement: agents and A2C. Acting is learning's forward pass, and a block is its episodes alone."""

import json
import signal
import sys
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("gymnasium")

import recall

from examples.reinforcement import a2c, agents, cells, report, training
from examples.reinforcement import run as command_line
from examples.reinforcement.agents import Sizes
from examples.reinforcement.rows import Carried, Rows
from fairseq_feedback.errors import FeedbackError

SLOTS, ACTIONS = [4, 2], 3
SPAN = 5


def make(name, span=SPAN, dtype=torch.float32, layers=2):
    torch.manual_seed(1)
    agent = agents.build(name, SLOTS, ACTIONS, Sizes(layers, 12, 2, span)).to(dtype)
    with torch.no_grad():  # heads that tell features apart
        for head in (agent.policy, agent.value):
            head.weight.normal_()
    return agent


def drawn(steps, rows, seed=0, often=0.3):
    """Symbols and starts of one long block."""
    generator = torch.Generator().manual_seed(seed)
    started = torch.rand(steps, rows, generator=generator) < often
    started[0] = True
    symbols = torch.stack([torch.randint(n, (steps, rows), generator=generator) for n in [*SLOTS, ACTIONS + 1]], dim=2)
    return symbols, started


def acted(agent, symbols, started, carried):
    """Logits and values of a block, step by step; what is carried on."""
    acting = agent.acting(carried)
    logits, values = zip(*(acting.step(*step) for step in zip(symbols, started)))
    return torch.stack(logits), torch.stack(values), acting.carried()


def test_returns_are_those_of_a_plain_loop():
    generator = torch.Generator().manual_seed(3)
    rewards = torch.randn(7, 5, generator=generator)
    ended = torch.rand(7, 5, generator=generator) < 0.3
    following = torch.randn(5, generator=generator)
    found = a2c.returns(rewards, ended, following, 0.9)
    for b in range(5):
        for t in range(7):
            expected, factor = 0.0, 1.0
            for later in range(t, 7):
                expected += factor * float(rewards[later, b])
                factor *= 0.9
                if ended[later, b]:
                    break
            else:
                expected += factor * float(following[b])
            assert float(found[t, b]) == pytest.approx(expected, abs=1e-5)
    assert ended.any() and not ended.all()


def test_every_row_is_a_part_of_one_episode():
    symbols, started = drawn(9, 6, often=0.4)
    started[0, :3] = False
    rows = Rows(started)
    number = torch.arange(54).view(9, 6, 1).double()
    laid = rows.lay_out(number)
    torch.testing.assert_close(rows.take_back(laid), number, rtol=0, atol=0)
    episode = (started.cumsum(dim=0) * 6 + torch.arange(6)).flatten()
    for r in range(laid.size(1)):
        (own,) = torch.nonzero(rows.place % laid.size(1) == r, as_tuple=True)
        assert len(set(episode[own].tolist())) == 1
    assert laid.size(1) == 6 + int(started[1:].sum()) and rows.fresh.sum() == started.sum()


@pytest.mark.parametrize("span", [1, SPAN, 50])
@pytest.mark.parametrize("name", agents.NAMES)
def test_acting_is_what_learning_computes(name, span):
    """Over several blocks of other lengths, with other weights in each, as after an update."""
    agent = make(name, span)
    symbols, started = drawn(23, 4)
    carried, at = agent.nothing(4), 0
    for steps in (6, 1, 9, 7):
        block = slice(at, at + steps)
        logits, values = agent(symbols[block], started[block], carried)
        expected_logits, expected_values, carried = acted(agent, symbols[block], started[block], carried)
        torch.testing.assert_close(logits, expected_logits, rtol=0, atol=1e-5)
        torch.testing.assert_close(values, expected_values, rtol=0, atol=1e-5)
        at += steps
        with torch.no_grad():
            for p in agent.parameters():
                p.add_(0.05 * torch.randn(p.shape))
    assert logits.std() > 0.1


@pytest.mark.parametrize("name", agents.NAMES)
def test_blocks_do_not_matter(name):
    """With the same weights, blocks of 4 steps give what one block gives: memory and age are carried on."""
    agent = make(name)
    symbols, started = drawn(20, 3, often=0.15)
    whole, _ = agent(symbols, started, agent.nothing(3))
    carried, parts = agent.nothing(3), []
    for at in range(0, 20, 4):
        logits, _, carried = acted(agent, symbols[at : at + 4], started[at : at + 4], carried)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", agents.NAMES)
def test_a_block_is_its_episodes_alone(name):
    """Outputs and gradients, of a block that goes on from carried memory and in the middle of which episodes begin."""
    agent = make(name, dtype=torch.float64)
    symbols, started = drawn(16, 4, often=0.2)
    _, _, carried = acted(agent, symbols[:6], started[:6], agent.nothing(4))
    symbols, started = symbols[6:], started[6:]
    assert started[1:].any() and not started[0].all() and (carried.age < SPAN).any()
    weight = torch.randn(10, 4, ACTIONS, dtype=torch.float64)

    def gradients(*losses):
        agent.zero_grad()
        sum(losses).backward()
        return {key: p.grad.clone() for key, p in agent.named_parameters()}

    logits, values = agent(symbols, started, carried)
    expected = gradients((logits * weight).sum() + values.square().sum())
    losses = []
    for b in range(4):
        begins = [0, *(t for t in range(1, 10) if started[t, b]), 10]
        for first, last in zip(begins, begins[1:]):
            episode = slice(first, last)
            before = Carried(carried.memory[:, b : b + 1], carried.age[b : b + 1])
            if started[first, b]:
                before = agent.nothing(1)
            x = agent.embed(symbols[episode, b : b + 1])
            alone, value = agent.heads(agent.run(x, Carried(before.memory.double(), before.age)))
            torch.testing.assert_close(alone[:, 0], logits[episode, b])
            torch.testing.assert_close(value[:, 0], values[episode, b])
            losses.append((alone[:, 0] * weight[episode, b]).sum() + value.square().sum())
    for key, found in gradients(*losses).items():
        torch.testing.assert_close(found, expected[key], msg=key)


@pytest.mark.parametrize("name", agents.NAMES)
def test_nothing_of_an_earlier_episode_is_left(name):
    """An episode gives the same whatever came before it, in acting and in learning."""
    agent = make(name)
    symbols, started = drawn(12, 2, often=0.0)
    started[7] = True
    other = symbols.clone()
    other[:7] = (other[:7] + 1) % torch.tensor([*SLOTS, ACTIONS + 1])
    for give in (agent, lambda *block: acted(agent, *block)):
        ours, theirs = (give(s, started, agent.nothing(2))[0] for s in (symbols, other))
        assert not torch.allclose(ours[:7], theirs[:7], atol=1e-3)
        torch.testing.assert_close(ours[7:], theirs[7:], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["feedback", "own"])
def test_memory_reaches_as_far_as_it_should(name):
    """With a span of 3 and 2 layers own sees at most 4 steps back. Feedback has no such end."""
    agent = make(name, span=3, dtype=torch.float64)
    symbols, started = drawn(12, 1, often=0.0)
    x = agent.embed(symbols).detach().requires_grad_()
    agent.heads(agent.run(x, agent.nothing(1)))[1][-1].sum().backward()
    seen = x.grad.abs().sum(dim=(1, 2)) > 0
    assert seen.tolist() == ([True] * 12 if name == "feedback" else [False] * 7 + [True] * 5)


def test_a_mistake_in_sizes_is_a_sentence():
    with pytest.raises(FeedbackError, match="--memory-span 0"):
        make("feedback", span=0)


# --- training

MODEL = cells.Model(Sizes(1, 16, 2), 3e-3)
TASK = cells.Task(recall.NAME, {"longest": 4, "cut": 0.1}, (8,), 8 * 6 * 10, {"feedback": MODEL, "lstm": MODEL}, 8, 6)


def trainer(name, task=TASK, seed=1):
    torch.manual_seed(seed)
    agent = agents.build(name, SLOTS, ACTIONS, MODEL.sizes._replace(span=8))
    return training.Training(task, MODEL, agent, recall.Recall(task.environments, **task.options), seed)


class Quiet:
    """Progress that says nothing, and does something after some updates."""

    def __init__(self, after=None, do=None):
        self.left, self.do = after, do

    def add(self, frames):
        if self.left:
            self.left -= 1
            if self.left == 0:
                self.do()

    def say(self, text):
        pass


def test_the_actor_counts_what_the_environments_give():
    made = trainer("lstm")
    block = made.actor.act(40)
    assert block.symbols.shape == (40, 8, 3) and made.frames == 320
    previous = torch.where(block.ended[:-1], 0, block.actions[:-1] + 1)
    assert torch.equal(block.symbols[1:, :, 2], previous)
    assert torch.equal(block.started[1:], block.ended[:-1]) and block.started[0].all()
    ended = of_episodes(block)
    episodes, recent = [sum(rewards) for rewards in ended], made.actor.reward()
    assert made.actor.episodes == int(block.ended.sum()) == len(episodes)
    assert recent["reward"] == pytest.approx(sum(episodes) / len(episodes))
    assert recent["success"] == pytest.approx(sum(e > 0 for e in episodes) / len(episodes))
    assert recent["length"] == pytest.approx(sum(len(rewards) for rewards in ended) / len(episodes))


def of_episodes(block):
    """The rewards of every episode that has ended."""
    found = []
    for b in range(block.rewards.size(1)):
        rewards = []
        for reward, ended in zip(block.rewards[:, b].tolist(), block.ended[:, b].tolist()):
            rewards.append(reward)
            if ended:
                found.append(rewards)
                rewards = []
    return found


@pytest.mark.parametrize("name", agents.NAMES)
def test_the_value_after_a_block_is_that_of_the_next_step(name):
    made = trainer(name)
    block = made.actor.act(6)
    carried = made.actor.carried
    following = made.actor.act(2)
    _, values = made.agent(following.symbols, following.started, carried)
    goes_on = ~block.ended[-1]
    assert goes_on.any()
    torch.testing.assert_close(values[0][goes_on], block.next_value[goes_on], rtol=0, atol=1e-5)


def test_the_loss_is_that_of_its_definition():
    made = trainer("lstm")
    carried, block = made.actor.carried, made.actor.act(6)
    costs = a2c.Costs(0.9, 0.2, 0.3)
    loss, parts = a2c.loss(made.agent, block, carried, costs)
    logits, values = made.agent(block.symbols, block.started, carried)
    wanted = a2c.returns(block.rewards, block.ended, block.next_value, 0.9)
    policy = torch.distributions.Categorical(logits=logits)
    each = -policy.log_prob(block.actions) * (wanted - values).detach()
    each = each + 0.3 * 0.5 * (wanted - values) ** 2 - 0.2 * policy.entropy()
    torch.testing.assert_close(loss, each.mean())
    assert parts["entropy"] == pytest.approx(float(policy.entropy().mean()))


@pytest.mark.parametrize("name", agents.NAMES)
def test_resumed_is_uninterrupted(name, tmp_path):
    before = signal.getsignal(signal.SIGINT)  # a shell's background jobs ignore it
    whole = trainer(name)
    training.train(whole, str(tmp_path / "whole"), Quiet())
    first = trainer(name)
    with pytest.raises(KeyboardInterrupt):
        training.train(first, str(tmp_path / "parts"), Quiet(4, lambda: signal.raise_signal(signal.SIGINT)))
    assert first.updates == 4 and training.frames_of(str(tmp_path / "parts")) == 4 * 48
    rest = trainer(name, seed=7)  # all of it comes from the checkpoint
    training.train(rest, str(tmp_path / "parts"), Quiet())
    assert rest.updates == whole.updates == 10
    for key, value in whole.agent.state_dict().items():
        assert torch.equal(rest.agent.state_dict()[key], value), key
    speeds = set(whole.speeds())
    written = [
        [{key: value for key, value in line.items() if key not in speeds} for line in training.lines(str(path))]
        for path in (tmp_path / "whole" / "metrics.jsonl", tmp_path / "parts" / "metrics.jsonl")
    ]
    assert written[0] == written[1] and [line["updates"] for line in written[0]] == list(range(1, 11))
    assert signal.getsignal(signal.SIGINT) is before


def test_metrics_after_a_crash_are_written_once(tmp_path):
    """A checkpoint of update 10, and lines of updates that came after it, the last one cut off."""
    folder = str(tmp_path)
    training.train(trainer("lstm"), folder, Quiet())
    with open(tmp_path / "metrics.jsonl", "a") as f:
        f.write('{"updates": 11, "frames": 528}\n{"updates": 12, "fra')
    training.train(trainer("lstm", TASK._replace(frames=12 * 48)), folder, Quiet())
    assert [line["updates"] for line in training.lines(str(tmp_path / "metrics.jsonl"))] == list(range(1, 13))


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    training.train(trainer("lstm"), str(tmp_path), Quiet())
    with pytest.raises(FeedbackError, match="is not of this training"):
        training.train(trainer("feedback"), str(tmp_path), Quiet())


def test_feedback_learns_to_remember(tmp_path):
    """Three symbols, asked for up to 6 steps later, with a span of 3: chance is a third."""
    model = cells.Model(Sizes(1, 32, 2, 3), 5e-3)
    task = cells.Task(recall.NAME, {"longest": 6}, (3,), 160_000, {}, 64, 16, a2c.Costs(0.95, 0.01))
    torch.manual_seed(1)
    made = training.Training(
        task, model, agents.build("feedback", SLOTS, ACTIONS, model.sizes), recall.Recall(64, longest=6), 1
    )
    while made.frames < task.frames and made.actor.reward().get("reward", 0) <= 0.95:
        made.update()
    assert made.actor.reward()["reward"] > 0.95


# --- the command


@pytest.fixture
def command(tmp_path, monkeypatch):
    recall.register()
    models = {name: MODEL for name in agents.NAMES}
    task = TASK._replace(models=models, spans=(2, 4))
    monkeypatch.setattr(cells, "TASKS", {"corridor": task})

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["run.py", "--out", str(tmp_path / "out"), *map(str, flags)])
        command_line.main()

    run.out = tmp_path / "out"
    return run


def test_every_cell_has_its_result_and_none_is_made_twice(command, capsys, tmp_path):
    which = ["--agents", "feedback", "lstm", "--seeds", 2]
    command(*which)
    first = capsys.readouterr()
    keys = [f"corridor-{agent}-{seed}" for agent in ("feedback-span2", "feedback-span4", "lstm") for seed in (1, 2)]
    results = command.out / "results"
    assert sorted(path.name for path in results.iterdir()) == [f"{key}.json" for key in keys]
    found = json.loads((results / "corridor-feedback-span2-1.json").read_text())
    assert found["frames"] == 480 and found["updates"] == 10 and found["curve"][-1] == [480, round(found["reward"], 4)]
    assert found["command"] == "--tasks corridor --agents feedback --seeds 1 --frames 480 --spans 2"
    (results / "corridor-lstm-2.json").unlink()
    command(*which)
    again = capsys.readouterr()
    assert first.err.count(" …\n") == 6 and again.err.count(" …\n") == 1
    command("--agents", "lstm", "--frames", 96)
    assert (command.out / "96-frames" / "results" / "corridor-lstm-1.json").exists()
    assert first.out.count("\n| ") == 4 and "| feedback | 1 × 16 | 2 | 0.00M |" in first.out
    pytest.importorskip("matplotlib")
    for name, begin in (("episode.gif", b"GIF89a"), ("episode.png", b"\x89PNG")):
        assert (command.out / keys[0] / name).read_bytes().startswith(begin)
    command("--table", results, "--plots", tmp_path / "plots")
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["corridor-spans.png", "corridor.png"]


def test_a_table_of_two_seeds(tmp_path, capsys):
    facts = {"task": "corridor", "agent": "own", "span": 8, "layers": 2, "width": 64, "environments": 4, "block": 3,
             "options": {"length": 20}, "parameters": 123_456, "frames": 2_000_000, "reward": 0.5, "best": 2.0,
             "training_speed": 1000, "acting_speed": 3000, "learning_speed": 1500, "cpu_minutes": 3.0}  # fmt: skip
    for seed, more in ((1, {}), (2, {"reward": 0.75, "best": None, "acting_speed": 5001, "cpu_minutes": 6.2})):
        (tmp_path / f"{seed}.json").write_text(json.dumps({**facts, "seed": seed, **more}))
    report.show(str(tmp_path))
    said = capsys.readouterr().out
    row = "| transformer (own) | 2 × 64 | 8 | 0.12M | 2.00M | 0.50, 0.75 | 25.0, – | 5 | 1,000 | 4,000 | 1,500 |"
    assert row in said and said.startswith("**corridor**, length 20; 4 environments, blocks of 3 steps:")


def test_bands_go_from_the_worst_to_the_best_seed():
    frames, low, middle, high = report.band([[[10, 0.0], [20, 1.0], [30, 2.0]], [[20, 3.0], [30, 2.0], [40, 2.0]]])
    assert frames.tolist() == [20, 30]
    assert low.tolist() == [1.0, 2.0] and middle.tolist() == [2.0, 2.0] and high.tolist() == [3.0, 2.0]


@pytest.mark.parametrize("paper", [[], ["--paper"]])
def test_cells_are_printed(paper, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", "--dry-run", "--seeds", "2", *paper])
    command_line.main()
    printed = capsys.readouterr().out.splitlines()
    tasks = (cells.PAPER if paper else cells.TASKS).values()
    assert len(printed) == 2 * sum(2 * len(task.spans) + 2 for task in tasks) == len(set(printed))


def test_a_task_that_the_paper_does_not_have(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["run.py", "--dry-run", "--paper", "--tasks", "maze_large", "corridor"])
    with pytest.raises(FeedbackError, match="does not have all of maze_large corridor, but corridor, maze_turns"):
        command_line.main()


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--seeds", 0], "--seeds 0: give at least 1"),
        (["--frames", 0], "--frames 0: give at least 1"),
        (["--spans", 4, 0], "--spans 0: give at least 1"),
        (["--plots", "x"], "--plots: give --table FOLDER, too"),
        (["--table", "/dev/null"], "/dev/null is not a folder"),
    ],
)
def test_mistakes_of_the_command(command, flags, words):
    with pytest.raises(FeedbackError, match=words):
        command(*flags)


def test_the_environments_of_two_seeds_are_others():
    seeds = []
    environments = SimpleNamespace(num_envs=1024, reset=lambda seed: (seeds.append(seed), None))
    for seed in (1, 2):
        a2c.Actor(SimpleNamespace(policy=torch.nn.Linear(1, 1), nothing=lambda rows: None), environments, seed)
    assert seeds[1] - seeds[0] >= 1024
