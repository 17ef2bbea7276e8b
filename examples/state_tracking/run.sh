#!/usr/bin/env bash
# Usage: bash examples/state_tracking/run.sh [OPTION...]
#
# State tracking: trains feedback transformers and others on problems whose state changes with every symbol, and prints
# tables. --help lists the options. A run that was stopped goes on with the same command.
set -euo pipefail

# shellcheck source=examples/common.sh
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../common.sh"

small_models state_tracking/run.py "matplotlib" "$@"
