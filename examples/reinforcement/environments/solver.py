"""What the best player gets, who knows everything: the maze, and what will be drawn until the episode ends.

    best_return("fairseq_feedback/Maze-v0", seed=1, size=7)

What an agent gets on average, divided by the average of this, says how near it is to what can be had. No agent gets
more in the same episode. In the corridor, the water maze and the maze with four directions, knowing what will be
drawn is no advantage: the best is always to reach the target soonest. With turns it can be one, because there is more
than one way to face on arrival.

The rules are written down a second time here, for one environment and without numpy, and the tests compare.
"""

import gymnasium
import numpy as np

from examples.reinforcement.environments.corridor import Corridor
from examples.reinforcement.environments.game import OBJECT, WALL
from examples.reinforcement.environments.maze import Maze
from examples.reinforcement.environments.water_maze import WaterMaze

HEADINGS = [(-1, 0), (0, 1), (1, 0), (0, -1)]  # up, right, down, left: rows, columns


def plays(name, **options):
    """Whether there is a best player for it."""
    return type(getattr(gymnasium.make(name, **options).unwrapped, "game", None)) in WORLDS


def best_return(name, seed, **options):
    """The sum of the rewards of an episode that is played by the best plan."""
    env = gymnasium.make(name, **options).unwrapped
    env.reset(seed=seed)
    return sum(env.step(action)[1] for action in best_plan(env.game))


def best_action(game, row=0):
    """The next action of the best plan; 0 if nothing can be got any more."""
    return (best_plan(game, row) or [0])[0]


def best_plan(game, row=0):
    """Actions that get as much as can be got in the rest of the episode, and no more of them than that takes."""
    start, move = WORLDS[type(game)](game, row)
    best, came_from, edge = start, {start: None}, [start]
    for _ in range(game.episode_steps - int(game.steps[row])):
        reached = []
        for state in edge:
            for action in range(game.actions):
                new = move(state, action)
                if new not in came_from:
                    came_from[new] = (state, action)
                    reached.append(new)
                    best = new if new[0] > best[0] else best
        edge = reached
    actions = []
    while came_from[best]:
        best, action = came_from[best]
        actions.append(action)
    return actions[::-1]


def corridor(game, row):
    """A state: rewards, steps from the start or None after the door."""
    colour = int(game.colour[row])

    def move(state, action):
        rewards, place = state
        if place is None:
            return state
        if action == 0:
            return rewards, min(place + 1, game.length)
        if place < game.length:
            return state
        return rewards + (action == 1 + colour), None

    return (0, int(game.place[row])), move


def maze(game, row):
    """A state: rewards, cell, heading."""
    size, edge = game.size, game.edge
    cells = game.cells[row].reshape(game.width, game.width)[edge : edge + size, edge : edge + size].tolist()
    objects = {cells[y][x] - OBJECT: (y, x) for y in range(size) for x in range(size) if cells[y][x] >= OBJECT}
    targets = [int(game.target[row])]
    for number in to_come(game, row):
        targets.append(int(game.next_target(targets[-1], number)))

    def move(state, action):
        rewards, (y, x), (down, right) = state
        if not game.turns:
            step = HEADINGS[action]
        elif action == 0:
            step = down, right
        else:
            return rewards, (y, x), ((-right, down) if action == 1 else (right, -down))
        there = y + step[0], x + step[1]
        inside = 0 <= min(there) and max(there) < size
        if not inside or cells[there[0]][there[1]] == WALL:
            there = y, x
        return rewards + (there == objects[targets[rewards]]), there, (down, right)

    y, x = divmod(int(game.place[row]), game.width)
    return (0, (y - edge, x - edge), HEADINGS[game.heading[row]]), move


def water_maze(game, row):
    """A state: rewards, cell."""
    last = game.size - 1
    goal = divmod(int(game.goal[row]), game.size)
    places = [divmod(int(game.next_place(game.goal[row], number)), game.size) for number in to_come(game, row)]

    def move(state, action):
        rewards, (y, x) = state
        down, right = HEADINGS[action]
        there = min(max(y + down, 0), last), min(max(x + right, 0), last)
        return (rewards + 1, places[rewards]) if there == goal else (rewards, there)

    return (0, divmod(int(game.place[row]), game.size)), move


def to_come(game, row):
    """What a row's stream has for the rest of the episode: rewards are followed by one number each."""
    return game.streams.ahead(np.array([row]), game.episode_steps)[0]


WORLDS = {Corridor: corridor, Maze: maze, WaterMaze: water_maze}  # game, row -> a state, what actions make of states
