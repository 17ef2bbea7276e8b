"""The reinforcement learning problems of the paper, and of POPGym, for gymnasium. Importing this registers them:

    fairseq_feedback/Corridor-v0    remember a colour                              corridor.py
    fairseq_feedback/Maze-v0        find coloured objects in a maze                maze.py
    fairseq_feedback/WaterMaze-v0   find a hidden place, and the way back to it    water_maze.py
    fairseq_feedback/POPGym-v0      tasks of another package, which others publish     popgym.py

    import gymnasium
    import examples.reinforcement.environments

    one = gymnasium.make("fairseq_feedback/Maze-v0", size=7, render_mode="ansi")
    many = gymnasium.make_vec("fairseq_feedback/Maze-v0", num_envs=1024, size=7)

Both forms are made of the same rules (forms.py). Many environments are stepped together by numpy, with no loop over
them. An action is one of a few, an observation a few numbers that name things: MultiDiscrete. What the best player
gets is in solver.py.
"""

from fairseq_feedback.tools.extras import need

need("rl", "gymnasium")

import gymnasium  # noqa: E402

MODULES = {"Corridor": "corridor", "Maze": "maze", "WaterMaze": "water_maze", "POPGym": "popgym"}

for name, module in MODULES.items():
    gymnasium.register(
        f"fairseq_feedback/{name}-v0",
        entry_point=f"{__name__}.{module}:{name}Env",
        vector_entry_point=f"{__name__}.{module}:{name}VectorEnv",
    )
