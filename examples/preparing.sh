# shellcheck shell=bash
# What the recipes' prepare.sh share. Each sources this file, and ends with
#
#     prepare_options "$@"; stage NAME; stage NAME; ...; prepare_end
#
# A stage makes the folder $OUT/NAME by the function NAME. The function writes to $PART, a folder of another name, which is
# renamed when it is whole: what has its name is whole, and is not made again.

# shellcheck source=examples/recipe.sh
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/recipe.sh"

DATA=    # a folder of archives
OUT=$FEEDBACK_ROOT/data/$RECIPE
WORKERS=
EXPECTED=$RECIPE_DIR/expected.txt
# Set by recipes with subword units, and by their options: how many.
SUBWORDS_SIZE=
SUBWORDS=subword-nmt
STAGE= # what is being made
PART=  # the folder that it writes to

# Reads the options of a prepare.sh, makes the environment, and leaves alone what is prepared already.
prepare_options() {
    MORE_HELP="A run that was stopped goes on where it was. The folder bin is what training needs; all others may be deleted."
    option --data DIR DATA folder "use the archives in this folder instead of downloading them"
    option --out DIR OUT path "where everything is written (data/$RECIPE, in the repository)"
    option --workers N WORKERS number "processes (one for each core)"
    option --expected FILE EXPECTED file "counts and checksums of other data, in the format of examples/$RECIPE/expected.txt"
    if [[ -n $SUBWORDS_SIZE ]]; then
        option --subwords KIND SUBWORDS text "subword-nmt, or sentencepiece (subword-nmt)"
        option --bpe-size N SUBWORDS_SIZE number "merges of subword-nmt, or units of sentencepiece ($SUBWORDS_SIZE)"
    fi
    read_options "$@"
    WORKERS=${WORKERS:-$(getconf _NPROCESSORS_ONLN)}
    [[ $SUBWORDS == subword-nmt || $SUBWORDS == sentencepiece ]] ||
        feedback_die "--subwords $SUBWORDS: give subword-nmt or sentencepiece"
    mkdir -p -- "$OUT/logs" || feedback_die "--out $OUT cannot be made"
    one_run_at_a_time
    same_settings
    trap explain_failure EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    if [[ -e $OUT/bin ]]; then
        [[ -z $DATA ]] || feedback_say "$OUT/bin was made before, and $DATA was not read: for other archives give another --out"
        prepare_end
        exit
    fi
    feedback_environment sacremoses subword_nmt
}

one_run_at_a_time() {
    hold_out && return
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
    printf '$ python examples/prepare/%s\n' "${*//$OUT\//}" >&2
    example "prepare/$1" "${@:2}"
}

# --- counts and checksums, which another number than that of expected.txt stops ---

expect() { example prepare/expected.py "$EXPECTED" count "$@"; }       # NAME FOUND
expect_lines() { example prepare/expected.py "$EXPECTED" lines "$@"; } # NAME FILE...: each has so many lines

count_lines() { wc -l <"$1" | tr -d ' '; }

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
    local found
    found=$(example prepare/expected.py "$EXPECTED" archive "$1" "$2" 2>&1) || printf '%s\n' "${found#error: }"
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

# Joint subword units of both sides, learned on train only; then all splits in them. From $OUT/FOLDER to $PART. What is
# longer than fairseq's models read, 1,024 units, is cut: one such line would stop validation. references() has it whole.
subword_units() { # FOLDER LANG LANG [OPTION...]
    local from=$OUT/$1 split side sides=("$2" "$3")
    shift 3
    tool subwords.py learn --kind "$SUBWORDS" --size "$SUBWORDS_SIZE" --codes "$PART/codes" \
        --workers "$WORKERS" "$@" "${sides[@]/#/$from/train.}"
    for split in train valid test; do
        for side in "${sides[@]}"; do
            tool subwords.py apply --kind "$SUBWORDS" --codes "$PART/codes" --workers "$WORKERS" \
                --longest 1000 "$@" <"$from/$split.$side" >"$PART/$split.$side"
            expect_lines "$split" "$PART/$split.$side"
        done
    done
}

# fairseq-preprocess of the splits in $OUT/FOLDER, to $PART.
binarize() { # FOLDER OPTION...
    local from=$OUT/$1 log=$OUT/logs/preprocess.log
    local command=(fairseq-preprocess "${@:2}" --destdir "$PART" --workers "$WORKERS" --trainpref "$from/train"
        --validpref "$from/valid" --testpref "$from/test")
    printf '$ %s\n' "${command[*]}" >&2
    example prepare/binarize.py "$log" "${command[@]}"
    rm -f -- "$PART/preprocess.log"
    example prepare/expected.py "$EXPECTED" preprocessed "$log" --summary "$PART/summary.txt"
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
