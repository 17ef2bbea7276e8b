"""What others say of others' code, and no user of this package can mend: fairseq's calls of hydra and torch.

Imported before fairseq. Python's own -W and PYTHONWARNINGS show it all.
"""

import logging
import sys
import warnings

FOREIGN = [  # how the message begins (a pattern), and the module that it points at
    ("`torch.jit.script` is deprecated", "torch.jit._script"),
    ("`torch.cuda.amp.autocast", "fairseq.tasks.fairseq_task"),
    ("'pin_memory' argument is set as true but no accelerator", "torch.utils.data.dataloader"),
    ("hydra.experimental.initialize.* no longer experimental", "hydra.experimental.initialize"),
    ("hydra.experimental.compose.* no longer experimental", "hydra.experimental.compose"),
    ("The version_base parameter is not specified", "hydra.experimental.initialize"),
    ("In 'config': Usage of deprecated keyword in package header", "hydra.core.default_element"),
    ("'config' is validated against ConfigStore schema", ""),  # points at the program
    ("The strict flag in the compose API is deprecated", "hydra.compose"),
]

if not sys.warnoptions:
    for message, module in FOREIGN:
        warnings.filterwarnings("ignore", r"\s*" + message, module=module)
logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)  # that tensorboardX is missing
