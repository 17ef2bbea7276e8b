# shellcheck shell=bash
# What the recipes' prepare.sh share. Each sources this file, and ends with
#
#     prepare_options "$@"; stage NAME; stage NAME; ...; prepare_end
#
# A stage makes the folder $OUT/NAME by the function NAME. The function writes to $PART, a folder of another name, which is
# renamed when it is whole: what has its name is whole, and is not made again.

# shellcheck source=examples/recipe.sh
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/recipe.sh"

DATA=    # --data, a folder of archives
OUT=     # --out
WORKERS= # --workers
EXPECTED=$RECIPE_DIR/expected.txt
# Set by recipes with subword units, and by their options: how many.
SUBWORDS_SIZE=
SUBWORDS=subword-nmt
STAGE= # what is being made
PART= # the folder that it writes to

# --- options ---

prepare_help() {
    print_head_comment
    cat <<HELP

  --data DIR       use the archives in this folder instead of downloading them
  --out DIR        where everything is written (data/$RECIPE, in the repository)
  --workers N      processes (one for each core)
  --expected FILE  counts and checksums of other data, in the format of examples/$RECIPE/expected.txt
HELP
    [[ -z $SUBWORDS_SIZE ]] || cat <<HELP
  --subwords KIND  subword-nmt, or sentencepiece (subword-nmt)
  --bpe-size N     merges of subword-nmt, or units of sentencepiece ($SUBWORDS_SIZE)
HELP
    printf '\nA run that was stopped goes on where it was. The folder bin is what training needs; all others may be deleted.\n\n'
    feedback_environment_help
}

# Reads the options of a prepare.sh, makes the environment, and leaves alone what is prepared already.
prepare_options() {
    local value
    while (($#)); do
        case $1 in
            -h | --help) prepare_help && exit ;;
            --data | --out | --workers | --expected) value=$(value_of "$@") || exit ;;&
            --data) DATA=$value ;;
            --out) OUT=$value ;;
            --workers) WORKERS=$value ;;
            --expected) EXPECTED=$value ;;
            --subwords | --bpe-size)
                [[ -n $SUBWORDS_SIZE ]] || bad_option "$1"
                value=$(value_of "$@") || exit
                ;;&
            --subwords) SUBWORDS=$value ;;
            --bpe-size) SUBWORDS_SIZE=$value ;;
            *) bad_option "$1" ;;
        esac
        shift 2
    done
    WORKERS=${WORKERS:-$(getconf _NPROCESSORS_ONLN)}
    positive_number --workers "$WORKERS"
    [[ $SUBWORDS == subword-nmt || $SUBWORDS == sentencepiece ]] ||
        feedback_die "--subwords $SUBWORDS: give subword-nmt or sentencepiece"
    [[ -z $SUBWORDS_SIZE ]] || positive_number --bpe-size "$SUBWORDS_SIZE"
    [[ -f $EXPECTED ]] || feedback_die "--expected $EXPECTED is not a file"
    if [[ -n $DATA ]]; then
        [[ -d $DATA ]] || feedback_die "--data $DATA is not a folder"
        DATA=$(cd -- "$DATA" && pwd)
    fi
    OUT=$(readlink -m -- "${OUT:-$FEEDBACK_ROOT/data/$RECIPE}")
    mkdir -p -- "$OUT/logs" || feedback_die "--out $OUT cannot be made"
    one_run_at_a_time
    same_settings
    trap explain_failure EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    if [[ -e $OUT/bin ]]; then
        prepare_end
        exit
    fi
    feedback_environment sacremoses subword_nmt
}

# Held by this process and those that it starts, also when this one is killed and they go on for a moment.
one_run_at_a_time() {
    exec 8>"$OUT/.lock" || feedback_die "--out $OUT: cannot write there"
    command -v flock >/dev/null 2>&1 || return 0
    flock -n 8 && return
    feedback_say "Another run is writing to $OUT. Waiting for it."
    flock 8
}

# What is half made with one kind of subword units must not go on with another.
same_settings() {
    local settings="$RECIPE ${SUBWORDS_SIZE:+$SUBWORDS $SUBWORDS_SIZE}"
    if [[ ! -e $OUT/settings ]]; then
        printf '%s\n' "$settings" >"$OUT/settings.part"
        mv -- "$OUT/settings.part" "$OUT/settings"
    elif [[ $(<"$OUT/settings") != "$settings" ]]; then
        feedback_die "$OUT was begun as $(<"$OUT/settings"), not as $settings. Give another --out, or delete it."
    fi
}

# --- stages ---

stage() { # NAME
    if [[ -e $OUT/$1 ]]; then
        feedback_say "$1: made before"
        return
    fi
    feedback_say "$1"
    STAGE=$1
    PART=$OUT/$1.part
    rm -rf -- "$PART"
    mkdir -- "$PART"
    "$1"
    mv -T -- "$PART" "$OUT/$1"
    STAGE=
}

explain_failure() {
    local status=$?
    ((status == 0)) || [[ -z $STAGE ]] ||
        printf 'error: the stage %s of %s did not come to its end. Run the same command again to make it again.\n' \
            "$STAGE" "$RECIPE" >&2
    exit "$status"
}

# A Python tool of examples/prepare.
tool() { # FILE ARGUMENT...
    local file=$FEEDBACK_EXAMPLES/prepare/$1
    shift
    printf '$ python %s %s\n' "${file#"$FEEDBACK_ROOT"/}" "${*//$OUT\//}" >&2
    "$FEEDBACK_PYTHON" "$file" "$@"
}

# --- counts and checksums ---

# The line of expected.txt for a name, without the name.
expected() { # NAME
    awk -v name="$1" '$1 == name { $1 = ""; sub(/^ +/, ""); print; exit }' "$EXPECTED"
}

# Compares a count with the one in expected.txt: "NAME COUNT", "NAME COUNT within N%", or "NAME COUNT remembered" for
# one that nobody could check. The first two stop at a difference, or at one that is larger; otherwise it is told.
# "NAME unknown": told only.
expect() { # NAME FOUND
    local wanted rest
    read -r wanted rest <<<"$(expected "$1")"
    if [[ $wanted == unknown ]]; then
        feedback_say "$1: $2"
        return
    fi
    [[ $wanted =~ ^[0-9]+$ ]] || feedback_die "$EXPECTED has no count for $1. This data has $2."
    if ((wanted == $2)); then
        feedback_say "$1: $2, as expected"
    elif [[ $rest == remembered ]] ||
        { [[ $rest == "within "*% ]] && awk -v a="$wanted" -v b="$2" -v percent="${rest//[^0-9.]/}" \
            'BEGIN { exit !((a > b ? a - b : b - a) <= a * percent / 100) }'; }; then
        feedback_say "$1: expected $wanted, found $2. The difference is small, or the number is not certain: going on."
    else
        feedback_die "$1: expected $wanted${rest:+ $rest}, found $2. Either the data is not what this recipe is for, or" \
            "part of it is missing. For other data of your own, give its counts by --expected."
    fi
}

count_lines() { wc -l <"$1" | tr -d ' '; }

expect_lines() { # NAME FILE...: each has as many lines as expected
    local name=$1 file count
    shift
    for file; do
        count=$(count_lines "$file")
        expect "$name" "$count"
    done
}

same_lines() { # FILE FILE
    local a b
    a=$(count_lines "$1")
    b=$(count_lines "$2")
    ((a == b)) || feedback_die "${1##*/} has $a lines, ${2##*/} has $b: the two sides do not belong together"
}

# --- archives ---

# Sets ARCHIVE to the path of an archive: in --data, or downloaded. Its checksum is that of expected.txt ("NAME md5
# HASH"); without one, it is read to its end.
archive() { # NAME URL...
    local name=$1 problem
    shift
    if [[ -n $DATA ]]; then
        ARCHIVE=$DATA/$name
        [[ -f $ARCHIVE ]] || feedback_die "$ARCHIVE is missing. It can be had from: $*"
    else
        ARCHIVE=$OUT/downloads/$name
        if [[ ! -f $ARCHIVE ]]; then
            download "$name" "$@"
            return
        fi
    fi
    problem=$(archive_problem "$name" "$ARCHIVE")
    [[ -z $problem ]] || feedback_die "$problem"
}

# Prints what is wrong with an archive, or nothing.
archive_problem() { # NAME PATH
    local kind sum found
    read -r kind sum <<<"$(expected "$1")"
    if [[ $kind == md5 ]]; then
        found=$(md5sum <"$2" | cut -d' ' -f1)
        [[ $found == "$sum" ]] ||
            printf '%s is not the right file, or is cut short: expected md5 %s, found %s, %s bytes\n' \
                "$2" "$sum" "$found" "$(stat -c %s -- "$2")"
    elif [[ $1 == *.tgz || $1 == *.zip ]]; then
        found=$("$FEEDBACK_PYTHON" "$FEEDBACK_EXAMPLES/prepare/archive.py" test "$2" 2>&1) || printf '%s\n' "${found#error: }"
    elif [[ ! -s $2 ]]; then
        printf '%s is empty\n' "$2"
    fi
}

# Tries one address after the other. What was downloaded before a stop is not downloaded again.
download() { # NAME URL...
    local name=$1 path=$OUT/downloads/$1 url problem count=$(($# - 1))
    shift
    mkdir -p -- "${path%/*}"
    for url; do
        feedback_say "Downloading $url"
        fetch "$url" "$path.part" || continue
        problem=$(archive_problem "$name" "$path.part")
        if [[ -z $problem ]]; then
            mv -- "$path.part" "$path"
            return
        fi
        feedback_say "$problem. Trying another address."
        rm -f -- "$path.part"
    done
    feedback_die "$name could not be downloaded, from $count addresses: see above." \
        "Get it by other means, and give its folder by --data."
}

# Some of these servers want the name of a browser.
fetch() { # URL PATH
    local status=0
    if command -v curl >/dev/null 2>&1; then
        curl -fL -sS -C - -A Mozilla/5.0 --retry 3 --connect-timeout 30 -o "$2" -- "$1" 2>"$OUT/logs/download.log" || status=$?
        if [[ -f $2 ]] && ((status == 33 || status == 36 || status == 22)); then # cannot go on with what is there
            rm -f -- "$2"
            status=0
            curl -fL -sS -A Mozilla/5.0 --retry 3 --connect-timeout 30 -o "$2" -- "$1" 2>"$OUT/logs/download.log" || status=$?
        fi
        ((status != 23)) || feedback_die "$2 could not be written: is the disk full?"
    elif command -v wget >/dev/null 2>&1; then
        wget -c -nv -U Mozilla/5.0 -T 30 -t 3 -O "$2" -- "$1" >"$OUT/logs/download.log" 2>&1 || status=$?
        ((status != 3)) || feedback_die "$2 could not be written: is the disk full?"
    else
        feedback_die "Neither curl nor wget was found. Install one, or give the archives by --data."
    fi
    if ((status != 0)); then
        feedback_say "That did not work: $(tail -n 1 -- "$OUT/logs/download.log")"
    fi
    return "$status"
}

# --- what several recipes do ---

# Joint subword units of both sides, learned on train only; then all splits in them. From $OUT/FOLDER to $PART.
subword_units() { # FOLDER LANG LANG [OPTION...]
    local from=$OUT/$1 split side sides=("$2" "$3")
    shift 3
    tool subwords.py learn --kind "$SUBWORDS" --size "$SUBWORDS_SIZE" --codes "$PART/codes" \
        --workers "$WORKERS" "$@" "${sides[@]/#/$from/train.}"
    for split in train valid test; do
        for side in "${sides[@]}"; do
            tool subwords.py apply --kind "$SUBWORDS" --codes "$PART/codes" --workers "$WORKERS" "$@" \
                <"$from/$split.$side" >"$PART/$split.$side"
            expect_lines "$split" "$PART/$split.$side"
        done
    done
}

# fairseq-preprocess of the splits in $OUT/FOLDER, to $PART. Its counts are compared with expected.txt: sentences (train),
# types (dict.de), and for language models tokens with ends of lines (train.tokens).
binarize() { # FOLDER OPTION...
    local from=$OUT/$1 log=$OUT/logs/preprocess.log split
    shift
    if ! run fairseq-preprocess "$@" --destdir "$PART" --workers "$WORKERS" --trainpref "$from/train" \
        --validpref "$from/valid" --testpref "$from/test" >"$log" 2>&1; then
        tail -n 20 -- "$log" >&2
        feedback_die "fairseq-preprocess failed. Its whole output is in $log"
    fi
    rm -f -- "$PART/preprocess.log"
    sed -nE -e 's/.*fairseq_cli\.preprocess( \| |:)(\[[^ ]*\] Dictionary: .*)/\2/p' \
        -e 's/.*fairseq_cli\.preprocess( \| |:)(\[[^ ]*\]) .*\/([^/ ]+): ([0-9]+ sents, .*)/\2 \3: \4/p' \
        "$log" | awk '!seen[$0]++' >"$PART/summary.txt"
    (($(grep -c ' sents, ' "$PART/summary.txt") >= 3)) || feedback_die "fairseq-preprocess did not print its counts. See $log"
    expect_binarized
}

expect_binarized() {
    local side what count tokens
    while read -r side what count _ tokens _; do
        side=${side//[\[\]]/}
        if [[ $what == Dictionary: ]]; then
            expect "dict${side:+.$side}" "$count"
        else
            what=${what%:}
            expect "${what%%.*}" "$count"
            [[ $side != None ]] || expect "${what%%.*}.tokens" "$tokens"
        fi
    done < <(sed 's/\[None\] Dictionary/[] Dictionary/' "$PART/summary.txt")
}

# Copies what eval.sh compares with to $PART: tokenized or raw text of $OUT/FOLDER/NAME as FOLDER.NAME.
references() { # FOLDER/NAME...
    local file
    mkdir -p -- "$PART/references"
    [[ $SUBWORDS != sentencepiece ]] || : >"$PART/sentencepiece" # tells eval.sh how to put words together
    for file; do
        cp -- "$OUT/$file" "$PART/references/${file//\//.}"
    done
}

prepare_end() {
    echo
    cat -- "$OUT/bin/summary.txt"
    echo
    du -sh -- "$OUT"/*/ | sed "s|$OUT/||"
    echo
    echo "Prepared: $OUT/bin. The other folders may be deleted."
}
