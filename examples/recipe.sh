# shellcheck shell=bash
# What all scripts of the recipes share; preparing.sh, training.sh and evaluation.sh source it.

FEEDBACK_EXAMPLES=$(cd -P -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
# shellcheck source=scripts/environment.sh
source "$FEEDBACK_EXAMPLES/../scripts/environment.sh"
# shellcheck source=examples/common.sh
source "$FEEDBACK_EXAMPLES/common.sh"

RECIPE_DIR=$(cd -P -- "$(dirname -- "$(readlink -f -- "$0")")" && pwd)
# shellcheck disable=SC2034  # for the files that source this one
RECIPE=${RECIPE_DIR##*/}

bad_option() { feedback_die "unknown option $1. See: bash examples/$RECIPE/${0##*/} --help"; }

# The value of an option, which must be there.
value_of() { # OPTION [VALUE]
    [[ $# -ge 2 && -n $2 ]] || feedback_die "$1 needs a value. See: bash examples/$RECIPE/${0##*/} --help"
    printf '%s\n' "$2"
}

positive_number() { # OPTION VALUE
    [[ $2 =~ ^[1-9][0-9]*$ ]] || feedback_die "$1 $2: give a positive number"
}

# The comment at the head of a recipe's script is its help.
print_head_comment() {
    sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' -- "$0"
}

# Prints a command on standard error, then runs it.
run() {
    printf '$ %s\n' "${*//$FEEDBACK_ROOT\//}" >&2
    "$@"
}
