#!/usr/bin/env bash
# Usage: bash examples/ablations/run.sh [OPTION...]
#
# Ablations: trains small language models that differ in one thing, and prints tables. --help lists the options. A run that
# was stopped goes on with the same command.
set -euo pipefail

# shellcheck source=examples/common.sh
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../common.sh"

small_models ablations/run.py "matplotlib" "$@"
