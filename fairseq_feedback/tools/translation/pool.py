"""Chunks translated by several processes, and given back in their order."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.program import quiet
from fairseq_feedback.tools.translation.translator import Translator, parse, sentence

AHEAD = 4  # chunks for each worker that may wait until an earlier one is finished


def translations(arguments, workers, threads, chunks, progress):
    """Yields (Chunk, Translation). Ends all workers when it ends, however it does."""
    context = multiprocessing.get_context("spawn")  # the only way that is safe with GPUs
    pool = {}
    try:
        for rank in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, arguments, threads, rank), daemon=True)
            process.start()
            theirs.close()  # now the end of the process is the end of the pipe
            pool[ours] = process
        yield from _in_order(pool, enumerate(chunks), progress)
    finally:
        for process in pool.values():
            process.kill()
        for process in pool.values():
            process.join()


def _in_order(pool, chunks, progress):
    idle, finished = [], {}
    handed = returned = 0
    upcoming = next(chunks, None)
    while upcoming or returned < handed:
        while upcoming and idle and handed - returned < AHEAD * len(pool):
            _send(idle[-1], pool[idle[-1]], upcoming)
            idle.pop()
            handed += 1
            upcoming = next(chunks, None)
        for connection in wait(list(pool)):
            kind, content = _receive(connection, pool[connection])
            if kind == "progress":
                progress(content)
                continue
            if kind == "failed":
                raise FeedbackError(content)
            if kind == "translated":
                number, chunk, translation = content
                finished[number] = chunk, translation
            idle.append(connection)
        while returned in finished:
            yield finished.pop(returned)
            returned += 1


def _send(connection, process, message):
    try:
        connection.send(message)
    except OSError as error:
        raise _died(process) from error


def _receive(connection, process):
    try:
        return connection.recv()
    except (EOFError, OSError) as error:
        raise _died(process) from error


def _died(process):
    process.join()
    code = process.exitcode
    how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    hint = ", as the system does when memory runs out (fewer --workers need less)" * (code == -signal.SIGKILL)
    return FeedbackError(f"a worker process {how}{hint}")


def _work(connection, arguments, threads, rank):
    """A worker: says that it is ready, then translates what it is sent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells of Ctrl-C, and ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    multiprocessing.set_start_method("fork", force=True)  # or Python warns of fairseq's semaphore when we are killed
    try:
        quiet()
        translator = Translator(parse(arguments), threads, rank)
        connection.send(("ready", None))
        while True:
            number, chunk = connection.recv()
            translation = translator.translate(chunk, lambda lines: connection.send(("progress", lines)))
            connection.send(("translated", (number, chunk, translation)))
    except EOFError:
        pass
    except Exception as error:
        connection.send(("failed", sentence(error)))


def _end_with_parent():
    """Also when the parent was killed, and could end nobody."""
    multiprocessing.parent_process().join()
    os._exit(1)
