"""Times of all systems of a case, one after the other in turns, and the peak memory of one in a process of its own."""

import gc
import logging
import multiprocessing
import re
import resource
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor

import torch

# Workers are forked from a process that has imported fairseq and has run nothing. Not our own modules: that process
# does not know our sys.path, and would find an installed fairseq_feedback.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["fairseq.trainer", "fairseq.tasks.translation", "fairseq.models.transformer"])


def begin(threads):
    """For this process: as many threads, and nothing of what fairseq and hydra say about every model."""
    torch.set_num_threads(threads)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")


def in_turns(made, repeats, device, say):
    """Seconds of every repeat, for each of the systems in `made` (name -> system): A, B, C, A, B, C, ..."""
    seconds = {name: [] for name in made}
    for repeat in range(repeats):
        for name, system in made.items():
            seconds[name].append(timed(system, device))
            say(f"  {repeat + 1}/{repeats} {name}: {seconds[name][-1]:.3f} s")
    return seconds


def timed(system, device):
    gc.collect()
    synchronize(device)
    start = time.perf_counter()
    system.run()
    synchronize(device)
    taken = time.perf_counter() - start
    system.clear()
    return taken


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def peak(make, *args, threads, device="cpu"):
    """Bytes that the first run of make(*args) takes above what its process held before."""
    with ProcessPoolExecutor(1, mp_context=_processes) as process:
        return process.submit(_peak, threads, device, make, args).result()


def _peak(threads, device, make, args):
    begin(threads)
    made = make(*args)
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        made.run()
        return torch.cuda.max_memory_allocated() - before
    reset_high_water_mark()
    before = resident("VmRSS")
    made.run()
    return resident("VmHWM") - before


def reset_high_water_mark():
    try:
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")
    except OSError:
        pass


def resident(field):
    """Bytes of memory that this process holds (VmRSS), or held at most (VmHWM)."""
    try:
        with open("/proc/self/status") as f:
            return 1024 * int(re.search(rf"^{field}:\s*(\d+) kB", f.read(), re.MULTILINE).group(1))
    except OSError:  # elsewhere only the most is known, and what a parent held may count
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
