#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The conformance program in shell, from PROTOCOL.md, section 3, alone: `conform.sh executor`, or `conform.sh MODE` as a
# command. What each MODE does: tests/worker/test_conformance.py.
trial=0 budget=0 resume=0 folder="" mode="" told="" executor=""

say() { if [ -n "$executor" ]; then printf '%s\n' "$1" >&"$MAGPIE_FD"; else printf '%s\n' "$2"; fi; }
report() { say "{\"type\":\"report\",\"trial\":$trial,\"step\":$1,\"metrics\":{\"value\":$1}}" "::magpie {\"step\":$1,\"metrics\":{\"value\":$1}}"; }
checkpoint() {
    mkdir -p "$folder/$1"
    printf '%s' "$1" > "$folder/$1/step"
    say "{\"type\":\"checkpoint\",\"trial\":$trial,\"step\":$1,\"path\":\"$1\"}" "::magpie {\"checkpoint\":$1}"
}
text() { [[ $2 =~ \"$1\":\ ?\"([^\"]*)\" ]] && printf '%s' "${BASH_REMATCH[1]}"; }
number() { [[ $2 =~ \"$1\":\ ?([0-9]+) ]] && printf '%s' "${BASH_REMATCH[1]}"; }

# Sets `told` when an order is there.
listen() {
    local line
    [ -n "$executor" ] || return 0
    while read -r -t 0 -u "$MAGPIE_FD"; do
        read -r -u "$MAGPIE_FD" line || exit 0
        case $(text type "$line") in
        stop) told=stopped ;;
        pause) told=paused ;;
        exit) exit 0 ;;
        esac
    done
}

count_up() {
    local step
    for ((step = resume + 1; step <= (budget > 0 ? budget : 3); step++)); do
        report "$step"
        checkpoint "$step"
        sleep "$1"
        listen
        [ -z "$told" ] || return 0
    done
}

# Runs the trial; afterwards `told` is how it ended, or "nothing".
run_mode() {
    told=""
    case $mode in
    steps) count_up 0.005 ;;
    slow) count_up 0.05 ;;
    deaf)
        trap '' TERM
        for ((step = 1; ; step++)); do report "$step"; sleep 0.05; done
        ;;
    garbage) say 'no JSON at all {' 'no JSON at all {'; report 1 ;;
    long) long=$(head -c 3000000 /dev/zero | tr '\0' x); say "$long" "$long"; report 1 ;;
    unknown) say '{"type":"weather","sun":true}' '::magpie {"sun":true}'; report 1 ;;
    early) exit 0 ;;
    temporary) exit 75 ;;
    configuration) exit 78 ;;
    error)
        [ -n "$executor" ] || exit 78
        say "{\"type\":\"error\",\"trial\":$trial,\"cause\":\"configuration\",\"reason\":\"no such shape\"}"
        told=nothing
        return
        ;;
    *) report 1 ;;
    esac
    told=${told:-completed}
}

if [ "$1" != executor ]; then
    trap 'told=stopped' TERM
    mode=$1 trial=$MAGPIE_TRIAL budget=${MAGPIE_BUDGET:-0} folder=$MAGPIE_CHECKPOINT_DIR
    [ -z "${MAGPIE_RESUME_FROM:-}" ] || resume=$(cat "$MAGPIE_RESUME_FROM/step")
    run_mode
    [ "$told" = completed ]
    exit
fi

executor=yes
say '{"type":"ready","versions":{"conform":"sh"}}'
while read -r -u "$MAGPIE_FD" line; do
    case $(text type "$line") in
    exit) exit 0 ;;
    start)
        trial=$(number trial "$line") budget=$(number budget "$line") folder=$(text checkpoint_dir "$line")
        mode=$(text mode "$line") resume=0
        path=$(text path "$line")
        [ -z "$path" ] || resume=$(cat "$path/step")
        run_mode
        [ "$told" = nothing ] || say "{\"type\":\"result\",\"trial\":$trial,\"status\":\"$told\"}"
        say '{"type":"ready"}'
        ;;
    esac
done
