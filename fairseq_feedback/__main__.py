"""`python -m fairseq_feedback`: versions, the folder to give to --user-dir, and the architectures."""

import os
import platform
from importlib import metadata

import fairseq
import torch
from fairseq.models import ARCH_MODEL_REGISTRY

import fairseq_feedback


def version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def main():
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(f"fairseq_feedback {fairseq_feedback.__version__}")
    print(f"fairseq          {fairseq.__version__} (ve-fairseq wheel: {version_of('ve-fairseq')})")
    print(f"torch            {torch.__version__} ({device})")
    print(f"python           {platform.python_version()}")
    print(f"\n--user-dir {os.path.dirname(os.path.abspath(fairseq_feedback.__file__))}\n")
    print("architectures (--arch):")
    for arch, model in ARCH_MODEL_REGISTRY.items():
        if model.__module__.startswith("fairseq_feedback."):
            print(f"  {arch}")


if __name__ == "__main__":
    main()
