"""Packages that only some tools need."""

import importlib
from importlib import metadata

from fairseq_feedback.errors import FeedbackError

EXTRAS = {  # as in setup.py
    "recipes": ["sacremoses", "sentencepiece", "rouge-score", "matplotlib"],
    "onnx": ["onnx", "onnxruntime"],
    "plot": ["matplotlib"],
    "rl": ["gymnasium>=1.4", "popgym"],
    "bench": ["labml-nn", "feedback-transformer-pytorch", "ctranslate2"],
    "test": ["pytest", "pytest-xdist", "hypothesis"],
}


def install(extra):
    return f"pip install 'fairseq-feedback[{extra}]'"


def need(extra, *modules):
    """Refuse to go on without modules of an extra."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise FeedbackError(f"{error}: {install(extra)}") from error


def version_of(package):
    """None: it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
