"""Is a checkpoint what was written? torch does not look at the checksums that its archives hold."""

import glob
import logging
import os
import zipfile
from typing import Optional

from fairseq_feedback.errors import FeedbackError

logger = logging.getLogger(__name__)

SKIP = "FEEDBACK_SKIP_VERIFY"
CHUNK = 1 << 20
FOLDER = 0x10  # an attribute of MS-DOS: torch takes memory as it is for a part that has it, and says nothing


class DamagedCheckpoint(FeedbackError):
    def __init__(self, path, what):
        super().__init__(f"checkpoint {path} is damaged, {what}. Copy it again, or take an earlier one.")
        self.path = str(path)


def verify(path) -> None:
    """Refuse a damaged file, before anything in it is believed."""
    if os.environ.get(SKIP) == "1":
        logger.warning(f"{SKIP} is set: {path} is not verified")
        return
    found = damage(path) if os.path.isfile(path) else None
    if found:
        raise DamagedCheckpoint(path, found)


def damage(path) -> Optional[str]:
    """What is wrong with an archive of torch, or None. Files of the old format have no checksums."""
    if not _is_archive(path):
        return None
    part = "its table of contents"
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                part = "its part " + info.filename.split("/", 1)[-1]
                if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
                    return f"{part} has two sizes"
                if info.external_attr & FOLDER:
                    return f"{part} is marked as a folder"
                with archive.open(info) as member:
                    while member.read(CHUNK):
                        pass
    except OSError as error:
        return f"{part} cannot be read ({error.strerror or error})"
    except Exception:  # zipfile meets damage with many kinds
        return f"{part} is not what was written"
    return None


def newest_whole(folder, suffix="") -> Optional[str]:
    """The checkpoint of a training that was written last, of those that are whole."""
    paths = glob.glob(os.path.join(glob.escape(folder), f"checkpoint*{suffix}.pt"))
    for path in sorted(paths, key=os.path.getmtime, reverse=True):
        if _is_archive(path) and not damage(path):
            return path
    return None


def beside(path, suffix="") -> str:
    """What may be resumed from instead of a damaged checkpoint. fairseq adds a worker's suffix by itself."""
    whole = newest_whole(os.path.dirname(os.path.abspath(path)), suffix)
    if whole is None:
        return "No checkpoint beside it is whole."
    return f"The newest whole one beside it is taken by --restore-file {whole.replace(suffix + '.pt', '.pt')}"


def _is_archive(path) -> bool:
    """As torch decides it."""
    with open(path, "rb") as f:
        return f.read(4) == b"PK\x03\x04"
