"""An episode of a trained agent, as an animated GIF and as a strip of pictures."""

import os

import numpy as np
import torch

from fairseq_feedback.files import whole
from fairseq_feedback.tools import pictures

STEPS = 200  # of an episode, at most
STRIP = 10  # pictures of a strip


def episode(agent, make, folder: str, seed: int) -> str:
    """Draw one into the folder -> what was drawn, or why not. make(): an environment that draws itself."""
    try:
        import matplotlib  # noqa: F401  it brings pillow
    except ImportError:
        return "no picture: matplotlib is missing"
    frames = walked(agent, make(), seed)
    gif(frames, os.path.join(folder, "episode.gif"))
    path = os.path.join(folder, "episode.png")
    strip(frames, path)
    return f"an episode is in {path}"


def walked(agent, environment, seed: int) -> list:
    """(picture, reward so far) before the first step and after every one; the agent does what it finds best."""
    device = agent.policy.weight.device
    acting = agent.acting(agent.nothing(1))
    observation, _ = environment.reset(seed=seed)
    before, total, over = 0, 0.0, False
    frames = [(environment.render(), total)]
    while not over and len(frames) <= STEPS:
        symbols = torch.as_tensor(np.append(observation, before), device=device)[None]
        logits, _ = acting.step(symbols, symbols[:, -1] == 0)
        action = int(logits.argmax())
        observation, reward, terminated, truncated, _ = environment.step(action)
        before, total, over = action + 1, total + float(reward), terminated or truncated
        frames.append((environment.render(), total))
    environment.close()
    return frames


def gif(frames: list, path: str) -> None:
    from PIL import Image

    first, *others = [Image.fromarray(picture) for picture, _ in frames]
    with whole(path, "wb") as f:
        first.save(f, "GIF", save_all=True, append_images=others, duration=200, loop=0)


def strip(frames: list, path: str) -> None:
    shown = sorted({round(i) for i in np.linspace(0, len(frames) - 1, STRIP)})

    def content(figure):
        for axes, number in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown):
            picture, total = frames[number]
            axes.imshow(picture)
            axes.set_axis_off()
            axes.set_title(f"{number}: {total:g}", fontsize=7, loc="center")

    pictures.draw(path, 1.1 * len(shown), 1.4, content)
