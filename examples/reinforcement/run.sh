#!/usr/bin/env bash
# Usage: bash examples/reinforcement/run.sh [OPTION...]
#
# Reinforcement learning: trains feedback transformers and others to walk corridors and mazes, and prints tables. --help
# lists the options. A run that was stopped goes on with the same command.
set -euo pipefail

# shellcheck source=examples/common.sh
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../common.sh"

small_models reinforcement/run.py "gymnasium matplotlib" "$@"
