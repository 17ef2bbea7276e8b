"""The rules of the corridor, the maze and the water maze, and the mazes that are drawn."""

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium", reason="the problems need gymnasium: pip install 'fairseq-feedback[rl]'")

import examples.reinforcement.environments  # noqa: E402, F401
from examples.reinforcement.environments.game import FREE, OBJECT, WALL  # noqa: E402
from examples.reinforcement.environments.kruskal import Kruskal  # noqa: E402
from examples.reinforcement.environments.streams import Streams  # noqa: E402

UP, RIGHT, DOWN, LEFT = range(4)
STEPS = [(-1, 0), (0, 1), (1, 0), (0, -1)]


def make(name, seed=0, **options):
    env = gymnasium.make(f"fairseq_feedback/{name}-v0", **options).unwrapped
    return env, env.reset(seed=seed)[0]


def vector_of(name, num_envs, seed=0, **options):
    vector = gymnasium.make_vec(f"fairseq_feedback/{name}-v0", num_envs=num_envs, **options)
    return vector, vector.reset(seed=seed)[0]


# --- the corridor ---


@pytest.mark.parametrize("colours", [2, 5])
def test_corridor(colours):
    """To every door, for every colour: only the right one is rewarded, and the colour is seen once."""
    doors = set()
    for seed in range(40):
        env, seen = make("Corridor", seed=seed, length=6, colours=colours)
        colour = int(seen[0]) - OBJECT
        assert 0 <= colour < colours
        door = seed % colours
        doors.add((colour, door))
        for place in range(6):
            for useless in range(1, 1 + colours) if place == seed % 6 else ():
                assert env.step(useless)[:4] == (np.array([FREE]), 0, False, False)
            assert env.step(0)[:4] == (np.array([1 if place == 5 else FREE]), 0, False, False)
        assert env.step(0)[:4] == (np.array([1]), 0, False, False)  # no way on but the doors
        assert env.step(1 + door)[1:4] == (float(door == colour), True, False)
    assert len(doors) == colours**2 or colours == 5 and len(doors) > 12


def test_corridor_colours_are_equally_likely():
    _, seen = vector_of("Corridor", 3000, colours=3)
    assert np.all(np.abs(np.bincount(seen[:, 0] - OBJECT) / 3000 - 1 / 3) < 0.03)


def test_corridor_time():
    env, _ = make("Corridor", length=4, colours=2, episode_steps=5)
    ends = [env.step(0)[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(False, True)]
    env, seen = make("Corridor", length=4, colours=2, episode_steps=5)
    for _ in range(4):
        env.step(0)
    assert env.step(int(seen[0]) - 1)[1:4] == (1.0, True, False)  # in the last step, it is no matter of time


@pytest.mark.parametrize("length, colours", [(2, 2), (20, 2), (100, 8)])
def test_chance_reaches_the_doors_in_most_episodes(length, colours):
    vector, _ = vector_of("Corridor", 300, length=length, colours=colours)
    rng = np.random.default_rng(0)
    first = np.zeros(300, int)  # 1: a door, 2: too late
    for _ in range(vector.game.episode_steps):
        _, _, ended, late, _ = vector.step(rng.integers(1 + colours, size=300))
        first = np.where(first == 0, ended + 2 * late, first)
    assert (first > 0).all() and (first == 1).mean() > 0.8


# --- the maze ---

PICTURE = """
a...b
.#.#.
.....
.###.
c....
"""


def put(env, picture, agent, heading=UP, target=0):
    """Let the maze be the picture's."""
    game = env.game
    cells = np.full((game.width, game.width), WALL)
    for y, line in enumerate(picture.split()):
        for x, sign in enumerate(line):
            code = {".": FREE, "#": WALL}.get(sign)
            cells[y + game.edge, x + game.edge] = OBJECT + ord(sign) - ord("a") if code is None else code
    game.cells[0] = cells.ravel()
    game.place[0] = (agent[0] + game.edge) * game.width + agent[1] + game.edge
    game.heading[0] = heading
    game.target[0] = target


def agent_of(env):
    scene = env.game.scene(0)
    return (scene.agent[0] - 1, scene.agent[1] - 1), scene.heading


def test_steps_and_turns():
    env, _ = make("Maze", size=5, colours=3)
    put(env, PICTURE, (2, 2))
    for action, where in [
        (0, ((1, 2), UP)),
        (1, ((1, 2), LEFT)),
        (0, ((1, 2), LEFT)),  # a wall
        (2, ((1, 2), UP)),
        (0, ((0, 2), UP)),
        (0, ((0, 2), UP)),  # the edge
        (2, ((0, 2), RIGHT)),
        (2, ((0, 2), DOWN)),
        (2, ((0, 2), LEFT)),
        (1, ((0, 2), DOWN)),
        (1, ((0, 2), RIGHT)),
        (1, ((0, 2), UP)),
        (1, ((0, 2), LEFT)),
        (0, ((0, 1), LEFT)),
    ]:
        _, reward, ended, late, _ = env.step(action)
        assert (agent_of(env), reward, ended, late) == (where, 0, False, False)


def test_four_directions():
    env, _ = make("Maze", size=5, colours=3, directions="four")
    assert env.action_space.n == 4
    put(env, PICTURE, (2, 2))
    for action, where in [
        (UP, (1, 2)),
        (LEFT, (1, 2)),
        (RIGHT, (1, 2)),
        (UP, (0, 2)),
        (UP, (0, 2)),
        (LEFT, (0, 1)),
        (DOWN, (0, 1)),
        (RIGHT, (0, 2)),
        (DOWN, (1, 2)),
        (DOWN, (2, 2)),
        (DOWN, (2, 2)),
        (RIGHT, (2, 3)),
    ]:
        seen = env.step(action)[0]
        assert agent_of(env) == (where, None)
        assert seen[4] == FREE and len(seen) == 10


def test_what_is_seen():
    """By hand: beside the wall in the left column, where the object c is below."""
    env, _ = make("Maze", size=5, colours=3)
    c = OBJECT + 2
    for heading, expected in [
        (UP, [1, 0, 0, 1, 0, 1, 1, c, 0]),
        (RIGHT, [0, 1, 0, 0, 0, c, 1, 1, 1]),
        (DOWN, [0, c, 1, 1, 0, 1, 0, 0, 1]),
        (LEFT, [1, 1, 1, c, 0, 0, 0, 1, 0]),
    ]:
        put(env, PICTURE, (3, 0), heading, target=1)
        assert env.game.observe()[0].tolist() == [*expected, 1]
    put(env, PICTURE, (4, 0), UP)
    assert env.game.observe()[0, 4] == c  # its own cell


@pytest.mark.parametrize("directions", ["turns", "four"])
@pytest.mark.parametrize("view", [1, 3, 5, 7])
def test_views_are_turned_squares_of_the_maze(view, directions):
    vector, _ = vector_of("Maze", 50, size=5, colours=4, view=view, directions=directions)
    rng = np.random.default_rng(1)
    for _ in range(20):
        seen = vector.step(rng.integers(vector.single_action_space.n, size=50))[0]
        for row in range(50):
            scene = vector.game.scene(row)
            around = np.pad(scene.cells, view, constant_values=WALL)
            y, x = np.array(scene.agent) + view - view // 2
            square = np.rot90(around[y : y + view, x : x + view], scene.heading or 0)
            assert (seen[row, :-1].reshape(view, view) == square).all()
            assert seen[row, -1] == scene.target


def test_targets():
    """Reached from any side; only the target is rewarded; the next is another, and objects stay."""
    env, _ = make("Maze", size=5, colours=3, directions="four", episode_steps=10**6)
    for start, action, target, reward in [
        ((0, 1), LEFT, 0, 1),
        ((1, 0), UP, 0, 1),
        ((0, 1), LEFT, 1, 0),
        ((0, 1), RIGHT, 0, 0),
        ((4, 1), LEFT, 2, 1),
    ]:
        put(env, PICTURE, start, target=target)
        before = env.game.cells.copy()
        seen, given, ended, late, _ = env.step(action)
        assert (given, ended, late) == (reward, False, False)
        assert (seen[-1] == target) == (not reward)
        assert (env.game.cells == before).all()
    following = np.zeros(3)
    for _ in range(1500):
        put(env, PICTURE, (0, 1), target=0)
        following[env.step(LEFT)[0][-1]] += 1
    assert following[0] == 0 and abs(following[1] / 1500 - 0.5) < 0.05


@pytest.mark.parametrize("directions", ["turns", "four"])
def test_an_episode_begins_in_a_new_maze(directions):
    """Every object once, in a free cell; the agent in another; all can be reached; all is drawn evenly."""
    vector, first = vector_of("Maze", 600, size=5, colours=6, directions=directions)
    for _ in range(2):
        places, headings, targets = np.zeros((5, 5)), set(), np.zeros(6)
        for row in range(600):
            scene = vector.game.scene(row)
            inside = scene.cells[1:-1, 1:-1]
            assert inside.shape == (5, 5) and (scene.cells == WALL).sum() - (inside == WALL).sum() == 24
            assert sorted(inside[inside >= OBJECT]) == list(OBJECT + np.arange(6))
            agent = (scene.agent[0] - 1, scene.agent[1] - 1)
            assert inside[agent] == FREE
            assert_no_dead_ends(inside != WALL)
            places[agent] += 1
            headings.add(scene.heading)
            targets[scene.target] += 1
        assert (places[::2] > 0).all() and places[1::2, 1::2].sum() == 0
        assert headings == ({0, 1, 2, 3} if directions == "turns" else {None})
        assert np.all(np.abs(targets / 600 - 1 / 6) < 0.06)
        assert len(np.unique(vector.game.cells, axis=0)) > 550
        vector.reset()


def assert_no_dead_ends(free):
    """Every free cell is reached from any other, and has two ways out."""
    cells = {tuple(cell) for cell in np.argwhere(free)}
    beside = {(y, x): cells & {(y + down, x + right) for down, right in STEPS} for y, x in cells}
    reached, edge = set(), {next(iter(cells))}
    while edge:
        reached |= edge
        edge = set().union(*(beside[cell] for cell in edge)) - reached
    assert reached == cells
    assert min(map(len, beside.values())) >= 2


def test_trees_are_kruskals():
    """With the plain algorithm, wall by wall."""
    kruskal = Kruskal(9)
    order = np.random.default_rng(0).random((50, kruskal.walls)).argsort(axis=1)
    gone = kruskal.tree(order)
    for row in range(50):
        parts = {(y, x): {(y, x)} for y in range(0, 9, 2) for x in range(0, 9, 2)}
        free = np.zeros((9, 9), bool)
        free[::2, ::2] = True
        for wall in order[row]:
            y, x = divmod(int(kruskal.wall_cells[wall]), 9)
            one, other = ((y, x - 1), (y, x + 1)) if x % 2 else ((y - 1, x), (y + 1, x))
            if parts[one] is not parts[other]:
                parts[one] |= parts[other]
                parts.update(dict.fromkeys(parts[other], parts[one]))
                free[y, x] = True
        assert (kruskal.cells(gone)[row] == free).all()
        assert free.sum() == 25 + 24


def test_every_tree_is_drawn():
    """Of four rooms: one of four walls stays, each as often."""
    kruskal, streams = Kruskal(3), Streams(4000)
    streams.seed(range(4000))
    gone = kruskal.tree(streams.draw(np.arange(4000), 4).argsort(axis=1))[:, :4]
    assert (gone.sum(axis=1) == 3).all()
    assert np.all(np.abs((~gone).mean(axis=0) - 1 / 4) < 0.03)


def test_dead_ends_are_opened_at_random():
    """Only walls of dead ends go, no more than needed, and each of a dead end's walls sometimes."""
    kruskal = Kruskal(7)
    rng = np.random.default_rng(0)
    tree = np.repeat(kruskal.tree(rng.random((1, kruskal.walls)).argsort(axis=1)), 500, axis=0)
    gone = tree.copy()
    kruskal.open_dead_ends(gone, rng.random((500, kruskal.rooms)).argsort(axis=1), rng.random((500, kruskal.rooms, 4)))
    ways = np.array([(tree[0, walls] & (walls < kruskal.walls)).sum() for walls in kruskal.sides])
    ends = np.flatnonzero(ways == 1)
    removable = {wall for room in ends for wall in kruskal.sides[room] if wall < kruskal.walls and not tree[0, wall]}
    removed = gone & ~tree
    assert set(np.flatnonzero(removed.any(axis=0))) == removable and len(removable) > len(ends)
    assert (removed.sum(axis=1) <= len(ends)).all() and (removed.sum(axis=1) < len(ends)).any()
    for free in kruskal.cells(gone):
        assert_no_dead_ends(free)


# --- the water maze ---


def test_water_maze_steps_and_sight():
    """On every cell, for every goal: where the steps lead, what is seen, and the reward."""
    env, seen = make("WaterMaze", size=4, episode_steps=10**6)
    game = env.game
    ids = game.ids[0].reshape(4, 4)
    assert sorted(ids.ravel()) == list(range(16))
    for place in np.ndindex(4, 4):
        for goal in np.ndindex(4, 4):
            for action, (down, right) in enumerate(STEPS):
                if place == goal:
                    continue
                game.place[0], game.goal[0] = place[0] * 4 + place[1], goal[0] * 4 + goal[1]
                seen, reward, ended, late, _ = env.step(action)
                there = min(max(place[0] + down, 0), 3), min(max(place[1] + right, 0), 3)
                assert (reward, ended, late) == (there == goal, False, False)
                if reward:
                    there = divmod(int(game.place[0]), 4)
                    assert there != goal
                down, right = goal[0] - there[0], goal[1] - there[1]
                sight = 1 + 3 * (down + 1) + right + 1 if max(abs(down), abs(right)) <= 1 else 0
                assert seen.tolist() == [ids[there], ids[goal], sight]
    assert (game.ids[0] == ids.ravel()).all()


def test_teleports_are_drawn_evenly_and_not_to_the_goal():
    vector, _ = vector_of("WaterMaze", 4000, size=3)
    game = vector.game
    game.goal[:], game.place[:] = 4, 1
    _, rewards, *_ = vector.step(np.full(4000, DOWN))
    count = np.bincount(game.place, minlength=9) / 4000
    assert rewards.sum() == 4000 and (game.goal == 4).all()
    assert count[4] == 0 and np.all(np.abs(np.delete(count, 4) - 1 / 8) < 0.03)


def test_water_maze_episodes():
    """IDs and goal stay while an episode lasts, and are new in the next; begins are drawn evenly, not at the goal."""
    vector, first = vector_of("WaterMaze", 2000, size=3, view=5, episode_steps=7)
    game = vector.game
    ids, goal = game.ids.copy(), game.goal.copy()
    rng = np.random.default_rng(0)
    for step in range(1, 8):
        assert (game.ids == ids).all() and (game.goal == goal).all()
        seen, _, ended, late, _ = vector.step(rng.integers(4, size=2000))
        assert (late == (step == 7)).all() and not ended.any()
    assert (game.ids != ids).any(axis=1).mean() > 0.99 and (game.goal != goal).mean() > 0.8
    assert np.all(np.abs(np.bincount(game.goal) / 2000 - 1 / 9) < 0.03)
    assert np.all(np.abs(np.bincount(game.place) / 2000 - 1 / 9) < 0.03) and (game.place != game.goal).all()
    for column in game.ids.T:
        assert np.all(np.abs(np.bincount(column) / 2000 - 1 / 9) < 0.03)
