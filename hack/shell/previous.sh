# shellcheck shell=bash
# The state of the project that an upgrade comes from. Sourced; needs say.sh, cache.sh.

# previous_commit: prints the commit that the present chart follows upon:
#   - the one that DBBACKUP_UPGRADE_FROM names; else
#   - the last release (a tag v…) before the present commit; else
#   - on a branch, the commit of main where it begins; else
#   - the last state of the chart and the definitions that was another one.
previous_commit() {
  local commit main
  git rev-parse --git-dir >/dev/null 2>&1 || fail "this is no clone of the project: there is no earlier state to upgrade from"
  if [[ -n ${DBBACKUP_UPGRADE_FROM:-} ]]; then
    commit_of "$DBBACKUP_UPGRADE_FROM" || fail "there is no commit $DBBACKUP_UPGRADE_FROM here"
    return
  fi
  commit=$(git describe --tags --abbrev=0 --match 'v*' HEAD^ 2>/dev/null) && commit_of "$commit" && return
  for main in origin/main main; do
    commit=$(git merge-base "$main" HEAD 2>/dev/null) || continue
    [[ $commit == "$(commit_of HEAD)" ]] || {
      printf '%s\n' "$commit"
      return
    }
  done
  git diff --quiet HEAD -- charts crds || {
    commit_of HEAD
    return
  }
  commit=$(git rev-list --first-parent --max-count 1 HEAD -- charts crds)
  commit_of "$commit^" || fail "the history of charts/ and crds/ is not in this clone (a shallow one? \`git fetch --unshallow\` brings it)"
}

commit_of() {
  git rev-parse --quiet --verify "$1^{commit}"
}

# export_previous: sets $previous to a folder that holds that state. The folder is
# always the same, because cargo would build what it has built before for another one;
# its files are as new as the export, so that cargo sees that they have changed.
export_previous() {
  local commit
  previous=$cache/previous
  commit=$(previous_commit) || return
  say "the state to upgrade from: $(git log -1 --format='%h of %cs: %s' "$commit")"
  [[ $(cat "$previous/.commit" 2>/dev/null) != "$commit" ]] || return 0
  rm -rf "$previous"
  mkdir "$previous"
  git archive "$commit" | tar -x -m -C "$previous"
  printf '%s\n' "$commit" >"$previous/.commit"
}
