# shellcheck shell=bash
# Seconds, memory and bytes of one step of one program. Sourced; needs $work, and
# $subject, $program and $step, which say what is measured.

# timed COMMAND...: a line "SUBJECT PROGRAM STEP wall cpu KiB" in the results. What the
# command prints goes to the file $to, if there is one. What earlier steps have written is
# on the disk before: nobody pays for another's pages.
timed() {
  sync
  /usr/bin/time --quiet --format '%e %U %S %M' --output "$work/one" "$@" >"${to:-$work/log}" 2>"$work/errors" || {
    show_end_of "$work/errors"
    fail "$program does not $step $subject"
  }
  awk -v what="$subject $program $step" '{ print what, $1, $2 + $3, $4 }' "$work/one" >>"$work/results"
}

weigh() {
  printf '%s %s %s %s\n' "$subject" "$program" "$step" \
    "$(du --bytes --summarize "$work/$program/repository" | cut -f1)" >>"$work/sizes"
}
