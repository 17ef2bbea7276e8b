"""Python processes forked from one that has imported fairseq: seconds less than Python's start and those imports."""

import atexit
import json
import logging
import multiprocessing
import os
import resource
import runpy
import shutil
import signal
import socket
import sys
import tempfile
import threading
from functools import lru_cache
from multiprocessing import forkserver, reduction
from unittest import mock

TESTS = os.path.dirname(os.path.abspath(__file__))

# What that process imports: fairseq, and what it and torch import late. Not fairseq_cli: those modules set up logging
# when imported. Not fairseq_feedback: a command finds it through --user-dir.
_context = multiprocessing.get_context("forkserver")
PRELOADED = [
    *("fairseq.models", "fairseq.tasks", "fairseq.trainer", "fairseq.options", "sacrebleu", "quick_hydra"),
    *("hydra.core.override_parser.overrides_parser", "torch.fx.experimental.symbolic_shapes", "torch._dynamo"),
]
_one_at_a_time = threading.Lock()


def start(args, files, cwd, env, executable=sys.executable, limit=None):
    """`python <args>`, these being `-m MODULE ...` or `SCRIPT ...`, with three open files as its standard ones."""
    with _one_at_a_time:
        with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join([TESTS, *_python_path(os.environ)])):
            _context.set_forkserver_preload(PRELOADED)  # the benchmarks set others
            forkserver.ensure_running()
        more = (list(map(str, args)), list(map(_File, files)), str(cwd), dict(env), executable, limit)
        process = _context.Process(target=_run, args=more)
        process.start()
    return process


class _File:
    def __init__(self, fd):
        self.fd = fd

    def __reduce__(self):  # when a process is started
        return _detach, (reduction.DupFd(self.fd),)


def _detach(fd):
    return fd.detach()


def _python_path(env):
    return list(filter(None, env.get("PYTHONPATH", "").split(os.pathsep)))


def _run(args, fds, cwd, env, executable, limit):
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.executable = executable
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    multiprocessing.set_start_method(None, force=True)  # not as this process was started
    logging.root.handlers.clear()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # not ignored, as where the tests run in the background
    sys.modules["torch"].set_num_threads(1)
    is_module = args[0] == "-m"
    sys.argv, sys.orig_argv = args[is_module:], [executable, *args]
    here = cwd if is_module else os.path.dirname(os.path.abspath(args[0]))
    python = [path for path in sys.path if path.startswith((sys.prefix, sys.base_prefix))]
    sys.path[:] = [here, *_python_path(env), *python]
    try:
        if is_module:
            runpy.run_module(args[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(args[0], run_name="__main__")
    except Exception:
        # As Python itself ends; multiprocessing would always print the trace.
        sys.excepthook(*sys.exc_info())
        sys.exit(1)


# A program that is such a process, for scripts that call Python


CLIENT = """#!{real} -IS
import json, os, resource, signal, socket, sys

if len(sys.argv) < 2 or sys.argv[1] != "-m" and not sys.argv[1].endswith(".py"):
    os.execv({real!r}, [{real!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as s:
    s.connect({address!r})
    more = [os.getcwd(), dict(os.environ), {path!r}, resource.getrlimit(resource.RLIMIT_FSIZE)]
    socket.send_fds(s, [b" "], [0, 1, 2])
    s.sendall(json.dumps([sys.argv[1:], *more]).encode())
    s.shutdown(socket.SHUT_WR)
    code = int(s.makefile().read())
if code < 0:
    os.kill(os.getpid(), -code)
os._exit(code)
"""
COMMANDS = ("preprocess", "train", "generate", "eval-lm", "interactive", "validate")


@lru_cache(maxsize=None)
def programs():
    """A folder with `python` and fairseq's commands."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    address = f"\0{folder}"
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen()
    threading.Thread(target=_serve, args=(server,), daemon=True).start()
    python = os.path.join(folder, "python")
    write_program(python, CLIENT.format(real=sys.executable, address=address, path=python))
    for name in COMMANDS:
        module = "fairseq_cli." + name.replace("-", "_")
        write_program(os.path.join(folder, "fairseq-" + name), f'#!/bin/sh\nexec {python} -m {module} "$@"\n')
    return folder


def write_program(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, 0o755)


def _serve(server):
    while True:
        connection, _ = server.accept()
        threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection):
    with connection:
        _, fds, _, _ = socket.recv_fds(connection, 1, 3)
        args, *more = json.loads(connection.makefile().read())
        process = start(args, fds, *more)
        for fd in fds:
            os.close(fd)
        process.join()
        connection.sendall(str(process.exitcode).encode())
