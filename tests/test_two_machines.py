"""Two machines: network namespaces of this one, with a virtual cable between them."""

import os
import subprocess
import sys
import time

import cli
import pytest
from helpers import needs_current_fairseq
from trained import assert_equal

NAMES, ADDRESSES, PORT = ("feedback-a", "feedback-b"), ("10.77.0.1", "10.77.0.2"), 29577
# fairseq makes the batches once, from the number of the epoch it starts in, unless it is told otherwise.
FLAGS = [
    *("--update-epoch-batch-itr", True, "--distributed-world-size", 2),
    *("--distributed-backend", "gloo", "--ddp-backend", "legacy_ddp"),
]
LOST = "error: another worker does not answer"


def ip(*words, check=True):
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=check)


def may_make_namespaces():
    try:
        made = ip("netns", "add", NAMES[0] + "-try", check=False).returncode == 0
    except FileNotFoundError:
        return False
    if made:
        ip("netns", "delete", NAMES[0] + "-try")
    return made


pytestmark = [
    pytest.mark.slow,
    needs_current_fairseq,
    pytest.mark.skipif(not may_make_namespaces(), reason="network namespaces may not be made here"),
]


@pytest.fixture
def machines():
    try:
        for name in NAMES:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", "cable-a", "netns", NAMES[0], "type", "veth", "peer", "name", "cable-b", "netns", NAMES[1])
        for name, address, end in zip(NAMES, ADDRESSES, ("cable-a", "cable-b")):
            ip("-n", name, "address", "add", address + "/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
        yield
    finally:
        for name in NAMES:
            ip("netns", "delete", name, check=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return cli.make_data(tmp_path_factory.mktemp("machines"))


def train(data, folder, rank, *more):
    """One machine's part, started."""
    command = ["ip", "netns", "exec", NAMES[rank], sys.executable, "-m", "torch.distributed.run", "--nnodes", 2]
    command += ["--nproc-per-node", 1, "--node-rank", rank, "--master-addr", ADDRESSES[0], "--master-port", PORT]
    command += ["-m", "fairseq_cli.train", *cli.train_flags(data, folder, *FLAGS, *more)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": cli.ROOT, "GLOO_SOCKET_IFNAME": f"cable-{'ab'[rank]}"}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return subprocess.Popen([*map(str, command)], cwd=cli.ROOT, env=env, **pipes)


def model(folder):
    return dict(cli.load(folder / "checkpoint_last.pt")["model"])


def one_machine(data, folder, *more):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", 2, "--master-port", PORT]
    command += ["-m", "fairseq_cli.train", *cli.train_flags(data, folder, *FLAGS, *more)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": cli.ROOT}
    return subprocess.run([*map(str, command)], cwd=cli.ROOT, env=env, capture_output=True, text=True, timeout=300)


def test_two_machines_are_one_with_two_workers(machines, data, tmp_path):
    done = [process.communicate(timeout=300)[0] for process in [train(data, tmp_path / "two", rank) for rank in (0, 1)]]
    assert "done training" in done[0], done
    one = one_machine(data, tmp_path / "one")
    assert one.returncode == 0, one.stderr[-3000:]
    losses = [[line["loss"] for line in cli.logged(said, "train_inner")] for said in (done[0], one.stdout)]
    assert losses[0] == losses[1] and losses[0]
    assert_equal(model(tmp_path / "two"), model(tmp_path / "one"))


def test_a_cable_that_is_out_for_a_while(machines, data, tmp_path):
    more = ("--max-update", 24)
    processes = [train(data, tmp_path / "two", rank, *more) for rank in (0, 1)]
    wait_for(tmp_path / "two" / "checkpoint_last.pt", processes[0])
    ip("-n", NAMES[1], "link", "set", "cable-b", "down")
    time.sleep(3)
    assert all(process.poll() is None for process in processes)
    ip("-n", NAMES[1], "link", "set", "cable-b", "up")
    done = [process.communicate(timeout=300)[0] for process in processes]
    assert "done training" in done[0], done
    assert one_machine(data, tmp_path / "one", *more).returncode == 0
    assert_equal(model(tmp_path / "two"), model(tmp_path / "one"))


def test_a_machine_that_is_gone(machines, data, tmp_path):
    more = ("--max-update", 24)
    processes = [train(data, tmp_path / "two", rank, *more) for rank in (0, 1)]
    wait_for(tmp_path / "two" / "checkpoint_last.pt", processes[0])
    subprocess.run(f"kill -9 $(ip netns pids {NAMES[1]})", shell=True, check=True)
    said = processes[0].communicate(timeout=300)[0]
    assert processes[0].returncode != 0 and processes[1].wait(60) != 0
    assert "done training" not in said and LOST in said, said
    assert_they_go_on(data, tmp_path, *more)


def test_a_cable_that_is_out_for_good(machines, data, tmp_path):
    """gloo would wait for half an hour, which is what happens without --heartbeat-timeout."""
    more = ("--max-update", 24, "--heartbeat-timeout", 8)
    processes = [train(data, tmp_path / "two", rank, *more) for rank in (0, 1)]
    wait_for(tmp_path / "two" / "checkpoint_last.pt", processes[0])
    ip("-n", NAMES[1], "link", "set", "cable-b", "down")
    done = [process.communicate(timeout=60)[0] for process in processes]
    assert all(process.returncode != 0 for process in processes)
    assert all(LOST in said and "done training" not in said for said in done), done
    ip("-n", NAMES[1], "link", "set", "cable-b", "up")
    assert_they_go_on(data, tmp_path, *more)


def assert_they_go_on(data, tmp_path, *more):
    """From the last checkpoint, as if nothing had happened."""
    done = [
        process.communicate(timeout=300)[0] for process in [train(data, tmp_path / "two", r, *more) for r in (0, 1)]
    ]
    assert "Loaded checkpoint" in done[0] and "done training" in done[0], done
    assert one_machine(data, tmp_path / "one", *more).returncode == 0
    assert_equal(model(tmp_path / "two"), model(tmp_path / "one"))


def wait_for(path, process):
    limit = time.time() + 120
    while not path.exists():
        assert process.poll() is None and time.time() < limit, process.communicate()[0]
        time.sleep(0.05)
