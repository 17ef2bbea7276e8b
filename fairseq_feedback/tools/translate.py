"""Translate a text file of any length, as fairseq-interactive would line by line.

    fairseq-feedback translate data-bin --path checkpoint_best.pt --input news.en --output news.de \\
        --beam 5 --tokenizer moses --source-lang en --target-lang de --bpe subword_nmt --bpe-codes codes

-i instead of --input and --output translates what one types, and shows the scores.

Takes the options of fairseq-interactive. Line N of --output is the translation of line N of --input, after --bpe and
--tokenizer have been undone: the D- lines of fairseq-interactive. An empty line stays empty.

--shard 3/16 translates the third of 16 parts of the file, on a machine of its own; the outputs of all, one after
another, are what one run would have written.

A run that was stopped, in whatever way, is continued by the same command. What is done is in OUTPUT.part, and what it
is in OUTPUT.part.json. The translations are the same for any --workers, and whether or not the run was stopped.
Batches have --max-tokens 4000 unless you say otherwise. Each worker has one thread, or OMP_NUM_THREADS: that can change
the last digits of a score, and so a translation.
"""

import contextlib
import glob
import json
import math
import os
import sys
import time
from argparse import Namespace

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.extras import need
from fairseq_feedback.tools.files import age, must_be_file
from fairseq_feedback.tools.program import at_least_one, quiet
from fairseq_feedback.tools.progress import Progress
from fairseq_feedback.tools.translation import pool, prompt, translator
from fairseq_feedback.tools.translation.output import ResumableOutput
from fairseq_feedback.tools.translation.text import read_chunks, scan

# Options that may change when a run is continued, for what is written does not depend on them. (Without the last one no
# line that is too long was written.)
FREE = {"input", "output", "workers", "buffer_size", "num_workers", "log_file", "log_format", "log_interval"}
FREE |= {"no_progress_bar", "user_dir", "data", "path", "skip_invalid_size_inputs_valid_test"}
# Options that name files which must not change, besides --path and the dictionaries.
FILES = ("bpe_codes", "bpe_merges", "bpe_vocab", "gpt2_encoder_json", "gpt2_vocab_bpe", "sentencepiece_model")
FILES += ("replace_unk", "shortlist")
PACKAGES = {"moses": "sacremoses", "sentencepiece": "sentencepiece"}  # of a --tokenizer or --bpe


def add_arguments(parser):
    """What --help shows. To list all of fairseq's options, fairseq would have to be imported, which takes seconds."""
    parser.usage = f"{translator.PROGRAM} DATA-BIN --path CHECKPOINT --input FILE --output FILE [OPTION...]"
    parser.epilog = (
        "Also all options of fairseq-interactive, such as --beam, --lenpen, --nbest, --tokenizer, --bpe, --batch-size, "
        "--fp16 and --cpu.\nThis lists them: fairseq-interactive --user-dir fairseq_feedback --help"
    )
    parser.add_argument("data", metavar="DATA-BIN", help="folder of fairseq's binary data: its dictionaries")
    parser.add_argument("--path", metavar="CHECKPOINT", help="one, or several with : between for an ensemble")
    parser.add_argument("--input", metavar="FILE", help="the text, one sentence a line")
    translator.add_own(parser)


def parse(parser, arguments):
    if {"-h", "--help"}.intersection(arguments):
        parser.print_help()
        parser.exit()
    return Namespace(arguments=arguments)


def main(given):
    arguments = given.arguments
    quiet()
    args = translator.parse(arguments)
    check(args)
    if args.interactive:
        return prompt.run(translator.Translator(args, threads()))
    text = scan(args.input, args.errors)
    first, end = translator.Shard(*map(int, args.shard.split("/"))).lines(text["lines"], args.chunk_lines)
    with contextlib.closing(ResumableOutput(args.output, describe(args, text))) as output:
        before, start = dict(output.done), time.time()
        begin = first + before["lines"]
        chunks = read_chunks(args.input, begin, end, args.chunk_lines)
        progress = Progress(before["lines"], end - first)
        try:
            for chunk, translation in translations(args, arguments, end - begin, chunks, progress):
                output.append(
                    translation.text,
                    lines=len(chunk.lines),
                    words=translation.words,
                    too_long=translation.too_long,
                )
        except KeyboardInterrupt:
            lines = output.done["lines"]
            raise FeedbackError(f"stopped: {lines:,} lines are done, the same command continues") from None
        finally:
            progress.end()
        if scan(args.input, args.errors) != text:
            raise FeedbackError(f"{args.input} was changed while it was read: delete {output.part} and start again")
        output.finish()
    report(args, before, output.done, max(time.time() - start, 1e-9))


def check(args):
    if args.path is None:
        raise FeedbackError("--path CHECKPOINT is missing")
    if args.interactive and (args.output or args.input != "-"):
        raise FeedbackError("--interactive reads and writes no files: leave out --input and --output, or -i")
    if not args.interactive and args.output is None:
        raise FeedbackError("--output FILE is missing (or -i, for a prompt)")
    if args.input == "-" and not args.interactive:
        raise FeedbackError("--input FILE is missing: a run goes on from its place in a file, so it reads no pipe")
    plain = not args.checkpoint_suffix and args.checkpoint_shard_count == 1
    inputs = [] if args.interactive else [args.input]
    for path in [*inputs, *(args.path.split(os.pathsep) if plain else ())]:
        must_be_file(path)
    at_least_one(args, "workers", "chunk_lines")
    for encoder in (args.tokenizer, args.bpe):
        if encoder in PACKAGES:
            need("recipes", PACKAGES[encoder])
    threads()


def describe(args, text):
    """All that the translations depend on, to know the work again: the text itself, options, the age of files."""
    paths = [*args.path.split(os.pathsep), *(getattr(args, name, None) for name in FILES)]
    for folder in args.data.split(os.pathsep):
        paths += glob.glob(os.path.join(glob.escape(folder), "dict.*.txt"))
    free = FREE.union(FILES)
    options = {name: value for name, value in vars(args).items() if name not in free}
    return json.loads(json.dumps({"input": text, "options": options, "files": age(paths)}, default=str))


def translations(args, arguments, left, chunks, progress):
    """Yields (Chunk, Translation). One worker is this process, several are processes of their own."""
    if not left:
        return
    workers = choose_workers(args, left)
    progress.say(f"{workers} worker{'s' * (workers > 1)}, {threads()} thread{'s' * (threads() > 1)} each")
    if workers > 1:
        yield from pool.translations(arguments, workers, threads(), chunks, progress.add)
        return
    try:
        model = translator.Translator(args, threads())
        for chunk in chunks:
            yield chunk, model.translate(chunk, progress.add)
    except Exception as error:
        raise FeedbackError(translator.sentence(error)) from error


def threads():
    given = os.environ.get("OMP_NUM_THREADS", "1")
    if not given.isdecimal() or int(given) < 1:
        raise FeedbackError(f"OMP_NUM_THREADS is {given}: it must be a number, at least 1")
    return int(given)


def choose_workers(args, left):
    """On a CPU one for each core, if there is memory for them: they are faster than one with as many threads."""
    import torch

    wanted = args.workers
    if wanted is None and torch.cuda.is_available() and not args.cpu:
        wanted = 1
    if wanted is None:
        checkpoints = sum(os.path.getsize(path) for path in args.path.split(os.pathsep) if os.path.isfile(path))
        wanted = min(len(os.sched_getaffinity(0)) // threads(), available_memory() // (2 * checkpoints + 10**9))
    return max(1, min(wanted, math.ceil(left / args.chunk_lines)))


def available_memory():
    with open("/proc/meminfo", encoding="ascii") as f:
        return next(1024 * int(line.split()[1]) for line in f if line.startswith("MemAvailable:"))


def report(args, before, done, seconds):
    lines, words = (done[name] - before[name] for name in ("lines", "words"))
    if done["too_long"]:
        print(f"warning: {done['too_long']:,} lines were too long and have an empty translation", file=sys.stderr)
    already = f" ({before['lines']:,} more were there already)" if before["lines"] else ""
    print(
        f"{lines:,} lines{already}, {words:,} words in {seconds:,.1f} seconds with loading: "
        f"{lines / seconds:,.1f} lines/s, {words / seconds:,.0f} words/s; {args.output}"
    )
