"""For --user-dir: the plugin, sequences that are drawn while training, and recurrent networks beside it."""

import fairseq_feedback  # noqa: F401

from . import recurrent, task  # noqa: F401
