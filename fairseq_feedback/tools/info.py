"""What is here: versions, the folder for --user-dir, architectures, what this machine can, extras.

It is also what the command without a sub-command says.

    fairseq-feedback info
"""

import os
import platform

from fairseq_feedback.tools.extras import EXTRAS, install, version_of
from fairseq_feedback.tools.program import quiet


def add_arguments(parser):
    pass


def main(args):
    quiet()
    import fairseq
    import torch
    from fairseq.models import ARCH_MODEL_REGISTRY

    import fairseq_feedback.plugin

    print(f"fairseq_feedback {fairseq_feedback.__version__}")
    print(f"fairseq          {fairseq.__version__} (ve-fairseq wheel: {version_of('ve-fairseq') or 'not installed'})")
    print(f"torch            {torch.__version__}")
    print(f"python           {platform.python_version()}")
    print(f"\n--user-dir {os.path.dirname(os.path.abspath(fairseq_feedback.__file__))}\n")
    print("architectures (--arch):")
    for arch, model in ARCH_MODEL_REGISTRY.items():
        if model.__module__.startswith("fairseq_feedback."):
            print(f"  {arch}")
    print("\nthis machine:")
    for name, value in machine().items():
        print(f"  {name:<16}  {value}")
    print("\nextras:")
    for extra, packages in EXTRAS.items():
        names = [package.partition(">=")[0] for package in packages]
        versions = {name: version_of(name) for name in names}
        missing = [package for package, version in versions.items() if version is None]
        found = ", ".join(f"{package} {version}" for package, version in versions.items() if version)
        print(f"  {extra:<7}  " + (f"without {', '.join(missing)}: {install(extra)}" if missing else found))


def machine():
    """What models can use here."""
    import torch

    from fairseq_feedback import native
    from fairseq_feedback.kernels.decoding.packing import pack
    from fairseq_feedback.kernels.products import can_pack
    from fairseq_feedback.kernels.weights import Affine

    square = torch.eye(8)
    packed = [name for name in ("float32", "bfloat16") if can_pack(square.to(getattr(torch, name)))]
    try:
        pack(Affine(square, None), int8=True)(square)
        int8 = "yes"
    except (AttributeError, NotImplementedError, RuntimeError) as error:
        int8 = f"no: {str(error).splitlines()[0]}"
    return {
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "no",
        "C++": f"no: {native.why_not()}" if native.why_not() else "yes",
        "packed products": ", ".join(packed) or "no: they need an x86 CPU with AVX, and torch with oneDNN",
        "--bf16": "yes" if "bfloat16" in packed or torch.cuda.is_available() else "yes, but slow: the CPU lacks it",
        "--decode-int8": int8,
    }
