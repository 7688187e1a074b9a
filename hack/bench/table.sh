# shellcheck shell=bash
# Medians and ratios of what was measured, as tables in Markdown. Sourced; needs
# $work/results (subject program step wall cpu KiB) and $work/sizes (subject program
# step bytes).

print_tables() {
  local subject name
  printf '\n%s, %s cores, %s; %s MB, medians of %s.\n' "$(date +%F)" "$(nproc)" \
    "$(sed -n 's/^model name.*: *//p' /proc/cpuinfo | head -n 1)" "$megabytes" "$rounds"
  for name in "${programs[@]}"; do version_of "$name"; done | paste -sd ',' | sed 's/,/, /g; s/$/./'
  for subject in "${subjects[@]}"; do
    printf '\n### %s (%s MB, then %s MB)\n\n' "$subject" "$(size_of "$subject" first)" "$(size_of "$subject" second)"
    print_table "$subject"
  done
}

# size_of SUBJECT DAY: in MB.
size_of() { du --bytes --summarize "$data/$1-$2" | awk '{ printf "%d", $1 / 1000000 }'; }

print_table() {
  awk -v subject="$1" -v names="${programs[*]}" '
    function median(key,    n, i, j, swap, list) {
      n = split(values[key], list, " ")
      for (i = 2; i <= n; i++)
        for (j = i; j > 1 && list[j - 1] + 0 > list[j] + 0; j--) {
          swap = list[j]; list[j] = list[j - 1]; list[j - 1] = swap
        }
      return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
    }
    function note(program, what, value) { values[program " " what] = values[program " " what] " " value }
    # One line; the ratio is of ours to the best of the others.
    function line(title, what, format, goal,    i, value, ours, best) {
      printf "| %s |", title
      best = ""
      for (i = 1; i <= count; i++) {
        value = median(program[i] " " what)
        printf(" " format " |", value)
        if (program[i] == "ours") ours = value
        else if (best == "" || value < best) best = value
      }
      printf(" %s | %s |\n", ours != "" && best > 0 ? sprintf("%.2f", ours / best) : "", goal)
    }
    BEGIN { count = split(names, program, " ") }
    FILENAME ~ /sizes$/ {
      if ($1 != subject) next
      if ($3 == "first") { first[$2] = $4; note($2, "stored", $4 / 1e6) }
      else note($2, "added", ($4 - first[$2]) / 1e6)
      next
    }
    $1 == subject {
      note($2, $3 " wall", $4)
      note($2, $3 " cpu", $5)
      note($2, $3 " memory", $6 / 1024)
    }
    END {
      printf "| |"; for (i = 1; i <= count; i++) printf " %s |", program[i]; print " ours ÷ best | goal |"
      printf "|---|"; for (i = 1; i <= count; i++) printf "---|"; print "---|---|"
      line("first: seconds", "first wall", "%.2f", "0.35")
      line("first: CPU seconds", "first cpu", "%.2f", "0.6")
      line("first: MB stored", "stored", "%.1f", "1.08")
      line("second: seconds", "second wall", "%.2f", subject == "random" ? "" : "0.2")
      line("second: CPU seconds", "second cpu", "%.2f", "0.6")
      line("second: MB added", "added", "%.1f", subject == "random" ? "" : subject == "dump" ? "0.1" : "0.2")
      line("unchanged: seconds", "again wall", "%.2f", "0.3")
      line("unchanged: CPU seconds", "again cpu", "%.2f", "0.6")
      line("restore: seconds", "restore wall", "%.2f", "0.4")
      line("restore: CPU seconds", "restore cpu", "%.2f", "0.6")
      line("peak MiB: first", "first memory", "%.0f", "128 MiB")
      line("peak MiB: second", "second memory", "%.0f", "128 MiB")
      line("peak MiB: unchanged", "again memory", "%.0f", "128 MiB")
      line("peak MiB: restore", "restore memory", "%.0f", "128 MiB")
    }' "$work/sizes" "$work/results"
}

# One run each: sizes do not vary, and of seconds the proportions count.
print_levels() {
  awk '$2 != "levels" { next }
    FILENAME ~ /sizes$/ { size[$3] = $4 / 1e6; next }
    { printf("| %s | %.2f | %.2f | %.1f |\n", substr($3, 7), $4, $5, size[$3]) }' "$work/sizes" "$work/results"
}
