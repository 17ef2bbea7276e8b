"""What an export is made of: config.json names all other files, with their checksums."""

import hashlib
import json
import os

from fairseq_feedback.errors import FeedbackError

CONFIG = "config.json"


def checksums(folder) -> dict:
    names = sorted(name for name in os.listdir(folder) if name != CONFIG)
    return {name: checksum(os.path.join(folder, name)) for name in names}


def checksum(path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def read(folder) -> dict:
    """The configuration of an export all of whose files are what was written."""
    path = os.path.join(folder, CONFIG)
    try:
        with open(path, encoding="utf-8") as f:
            config = json.load(f)
        files = dict(config["files"])
    except FileNotFoundError:
        raise FeedbackError(f"{folder} is no export: it has no {CONFIG}") from None
    except (ValueError, KeyError, TypeError):
        raise FeedbackError(f"{path} is damaged, or of an export without checksums: export it again") from None
    for name, wanted in files.items():
        path = os.path.join(folder, os.path.basename(name))
        if not os.path.isfile(path):
            raise FeedbackError(f"{path} is missing: export it again")
        if checksum(path) != wanted:
            raise FeedbackError(f"{path} is not what was exported: copy the folder again, or export it again")
    return config
