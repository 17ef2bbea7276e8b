"""Test an archive (.tgz, .tar.gz, .gz or .zip), or take files out of it.

    python examples/prepare/archive.py test de-en.tgz
    python examples/prepare/archive.py take de-en.tgz --to FOLDER train.tags.de-en.de train.tags.de-en.en

Files are named by the end of their path in the archive, and come to lie directly in the folder. An archive that is cut
short or damaged, or is something else (a web page that was saved under its name), ends in an error, as does a file that
is not there; then no file is written.
"""

import contextlib
import errno
import gzip
import os
import shutil
import tarfile
import zipfile

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.files import must_be_file, whole
from fairseq_feedback.tools.program import Parser, run

BLOCK = 1 << 20


def main():
    parser = Parser(__doc__)
    parser.add_argument("action", choices=("test", "take"))
    parser.add_argument("archive", metavar="ARCHIVE")
    parser.add_argument("--to", metavar="FOLDER", help="where to write the files")
    parser.add_argument("files", nargs="*", metavar="FILE")
    args = parser.parse_intermixed_args()
    must_be_file(args.archive)
    with_sentences(args.archive, test if args.action == "test" else lambda path: take(path, args.files, args.to))


def with_sentences(path, function):
    """function(path); what can be wrong with an archive becomes a FeedbackError."""
    try:
        return function(path)
    except (tarfile.ReadError, zipfile.BadZipFile, gzip.BadGzipFile) as error:
        raise FeedbackError(f"{path} is cut short or not an archive ({error}): {size(path)}") from error
    except Exception as error:  # zipfile and tarfile meet damage with many kinds
        if isinstance(error, FeedbackError) or isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        if isinstance(error, RuntimeError) and "encrypted" in str(error):
            mend = "unpack it yourself, and pack it again without one"
            raise FeedbackError(f"{path} needs a password: {mend}") from error
        raise FeedbackError(f"{path} is cut short or damaged: {size(path)}") from error


def is_zip(path):
    with open(path, "rb") as f:
        return f.read(2) == b"PK"


def size(path):
    return f"it has {os.path.getsize(path):,} bytes"


def test(path):
    if is_zip(path):
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
        if bad:
            raise FeedbackError(f"{path} is damaged, in its file {bad}: {size(path)}")
    else:
        with gzip.open(path) as f:
            while f.read(BLOCK):
                pass


def files_of(path):
    """(name, open file) of every file in the archive, in one pass."""
    if is_zip(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if not name.endswith("/"):
                    with archive.open(name) as f:
                        yield name, f
    else:
        # tarfile would unpack by itself, but takes a file that is cut short for one that is whole.
        with gzip.open(path) as f, tarfile.open(fileobj=f, mode="r|") as archive:
            for member in archive:
                if member.isfile():
                    yield member.name, archive.extractfile(member)
                archive.members.clear()  # which would hold the names of all
            while f.read(BLOCK):
                pass


def take(path, wanted, folder):
    if not folder or not wanted:
        raise FeedbackError("take: give --to FOLDER and the names of files")
    os.makedirs(folder, exist_ok=True)
    missing = {os.path.basename(name): name for name in wanted}
    # They get their names when all of the archive was read, and is whole.
    with contextlib.ExitStack() as files:
        for name, f in files_of(path):
            end = os.path.basename(name)
            if end in missing and ("/" + name).endswith("/" + missing[end]):
                out = files.enter_context(whole(os.path.join(folder, end), "wb"))
                shutil.copyfileobj(f, out, BLOCK)
                del missing[end]
        if missing:
            raise FeedbackError(f"{path} has no {' and no '.join(sorted(missing.values()))}")


if __name__ == "__main__":
    run(main)
