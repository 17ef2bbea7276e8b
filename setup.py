import platform
import re
from pathlib import Path

from setuptools import Extension, find_packages, setup

HERE = Path(__file__).parent
README = HERE / "README.md"
VERSION = re.search(r'__version__ = "(.*)"', (HERE / "fairseq_feedback/__init__.py").read_text())

# Optional, see fairseq_feedback/native: a failure to build it is a warning. No libgomp: it takes torch's at run time.
NATIVE = Extension(
    "fairseq_feedback.native._native",
    sources=[f"fairseq_feedback/native/{name}.cpp" for name in ("attention", "float32", "int8", "top", "training")],
    depends=["fairseq_feedback/native/vectors.h"],
    extra_compile_args=["-std=c++17", "-O3", "-g0", "-w", "-fopenmp", "-march=x86-64-v4", "-mavx512vnni"],
    optional=True,
)
ON_X86 = platform.machine() in ("x86_64", "AMD64")

setup(
    name="fairseq-feedback",
    version=VERSION.group(1),
    description="Feedback Transformer (memory shared by all layers) as a fairseq plugin",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    author="The fairseq_feedback authors",
    license="MIT",
    project_urls={
        "Paper": "https://arxiv.org/abs/2002.09402",
        "fairseq": "https://github.com/facebookresearch/fairseq",
    },
    keywords="fairseq transformer feedback-transformer machine-translation language-model",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    packages=find_packages(include=["fairseq_feedback", "fairseq_feedback.*"]),
    package_data={"": ["README.md"], "fairseq_feedback.native": ["*.cpp", "*.h"]},
    ext_modules=[NATIVE] if ON_X86 else [],
    # The ve-fairseq wheels exist for Python 3.11 and 3.12 only.
    python_requires=">=3.11,<3.13",
    install_requires=[
        "torch>=2.6",  # the first whose loader is safe by default
        "ve-fairseq==0.12.3",
        "sacrebleu",
        "subword-nmt",
    ],
    entry_points={"console_scripts": ["fairseq-feedback=fairseq_feedback.tools.command:main"]},
    extras_require={
        "test": ["pytest", "pytest-xdist", "hypothesis"],
        "recipes": ["sacremoses", "sentencepiece", "rouge-score", "matplotlib"],  # of examples and tools
        "onnx": ["onnx", "onnxruntime"],  # of `fairseq-feedback export` and examples/onnx
        "plot": ["matplotlib"],
        "rl": ["gymnasium>=1.4", "popgym"],  # of examples/reinforcement
        "bench": ["labml-nn", "feedback-transformer-pytorch", "ctranslate2"],  # what scripts/bench compares with
    },
    zip_safe=False,
)
