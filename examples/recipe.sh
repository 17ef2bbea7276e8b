# shellcheck shell=bash
# What all scripts of the recipes share; preparing.sh, training.sh and evaluation.sh source it.

# shellcheck source=examples/common.sh
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/common.sh"

RECIPE_DIR=$(cd -P -- "$(dirname -- "$(readlink -f -- "$0")")" && pwd)
# shellcheck disable=SC2034  # for the files that source this one
RECIPE=${RECIPE_DIR##*/}
