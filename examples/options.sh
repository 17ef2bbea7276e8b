# shellcheck shell=bash
# Options of the examples' scripts: what each takes is declared once, for reading it and for --help.
#
#     option --data DIR DATA folder "what to read"     an option, what its value is called, its variable, its kind, its help
#     read_options "$@"                                sets the variables, and FURTHER to what follows --
#
# Kinds: text; path, made absolute; folder and file, which must be there; number, from 1; count, from 0; flag, without a
# value, which sets "yes". FURTHER_HELP, if set, allows flags after --, and tells what they are for.

declare -A OPTION_VARIABLE=() OPTION_KIND=()
OPTION_HELP=
FURTHER=()
FURTHER_HELP=

option() { # NAME VALUE VARIABLE KIND HELP
    OPTION_VARIABLE[$1]=$3
    OPTION_KIND[$1]=$4
    option_help "$1${2:+ $2}" "$5"
}

option_help() { # OPTION HELP
    local line
    printf -v line '  %-20s %s\n' "$1" "$2"
    OPTION_HELP+=$line
}

read_options() {
    local name kind value
    while (($#)); do
        name=$1
        kind=${OPTION_KIND[$name]:-}
        shift
        if [[ $name == -h || $name == --help ]]; then
            show_help
            exit
        elif [[ $name == -- && -n $FURTHER_HELP ]]; then
            break
        elif [[ $kind == flag ]]; then
            value=yes
        elif [[ -z $kind ]]; then
            bad_usage "unknown option $name"
        else
            [[ -n ${1:-} ]] || bad_usage "$name needs a value"
            value=$(checked "$name" "$kind" "$1") || exit
            shift
        fi
        printf -v "${OPTION_VARIABLE[$name]}" %s "$value"
    done
    # shellcheck disable=SC2034  # for the scripts
    FURTHER=("$@")
}

checked() { # NAME KIND VALUE: prints the value
    local value=$3
    case $2 in
        number) [[ $value =~ ^[1-9][0-9]*$ ]] || feedback_die "$1 $value: give a positive number" ;;
        count) [[ $value =~ ^[0-9]+$ ]] || feedback_die "$1 $value: give a number from 0" ;;
        folder) [[ -d $value ]] || feedback_die "$1 $value is not a folder" ;;
        file) [[ -f $value ]] || feedback_die "$1 $value is not a file" ;;
    esac
    case $2 in
        path | folder | file) readlink -m -- "$value" ;;
        *) printf '%s\n' "$value" ;;
    esac
}

# The script as it was called, from the root of the repository.
this_script() {
    local path
    path=$(readlink -f -- "$0")
    printf '%s\n' "${path#"$FEEDBACK_ROOT"/}"
}

bad_usage() { feedback_die "$1. See: bash $(this_script) --help"; }

# The comment at the head of the script, the options, what stands in MORE_HELP, and the environment's variables.
show_help() {
    sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' -- "$0"
    [[ -z $FURTHER_HELP ]] || option_help "-- FLAG..." "$FURTHER_HELP"
    printf '\n%s\n%s' "$OPTION_HELP" "${MORE_HELP:+$MORE_HELP$'\n\n'}"
    feedback_environment_help
}
