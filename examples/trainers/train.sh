#!/bin/sh
# A trainer in POSIX shell and awk, without Windlass: logistic regression on wine.csv by gradient descent.
#
#     windlass trainers check --config '{"epochs": 400}' --data wine.csv sh train.sh
#
# The config is read from config.yaml, which lies beside spec.json and has one "name: value" a line.
set -eu
folder= spec=
while [ $# -gt 0 ]; do
  case $1 in
    --spec) spec=$2; shift 2 ;;
    --output-dir) folder=$2; shift 2 ;;
    *) echo "unknown option $1" >&2; exit 2 ;;
  esac
done
head -c 1 "$spec" | grep -q '{' && tail -n 1 "$spec" | grep -q '}' && grep -q '"id"' "$spec" ||
  { echo "$spec is no spec" >&2; exit 2; }

# one line of spec.json is one "key": value
value() { sed -n "s/^ *\"$1\": *\"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" "$spec" | tail -n 1; }
data=$(sed -n '/"data": \[/,/\]/p' "$spec" | sed -n '2s/^ *"\(.*\)",\{0,1\}$/\1/p')
[ -n "$data" ] || data=$(dirname "$0")/wine.csv
wanted=$(sed -n '/"fingerprints": {/,/}/p' "$spec" | sed -n 's/^ *"data": *"\(.*\)".*/\1/p')
is=$(sha256sum "$data" | cut -d ' ' -f 1)
if [ -n "$wanted" ] && [ "$wanted" != "$is" ]; then
  echo "$(basename "$data") is $is, not $wanted as the spec says" >&2
  exit 3
fi
learning_rate=0.5 epochs=400 l2=0.0001
while IFS=': ' read -r name setting; do
  case $name in
    learning_rate | epochs | l2) eval "$name=\$setting" ;;
    '' | '{}') ;;
    *) echo "unknown parameter $name; known: learning_rate, epochs, l2" >&2; exit 3 ;;
  esac
done < "$folder/config.yaml"

mkdir -p "$folder/state" "$folder/checkpoint"
asked=
trap 'asked=1' TERM
epoch=0
[ -f "$folder/state/weights" ] && epoch=$(head -n 1 "$folder/state/weights") && echo "going on after epoch $epoch" >&2
while [ "$epoch" -lt "$epochs" ]; do
  if [ -n "$asked" ]; then
    echo "asked to end: saved after epoch $epoch" >&2
    exit 143
  fi
  last=$((epoch + 20 < epochs ? epoch + 20 : epochs))
  # twenty epochs a process; awk ignores the signal that its shell takes note of
  (trap '' TERM; exec awk -F , -v saved="$folder/state/weights" -v first="$epoch" -v last="$last" \
    -v rate="$learning_rate" -v l2="$l2" -v journal="$folder/journal.jsonl" '
    FNR == 1 { next }
    { rows++; for (j = 1; j < NF; j++) { v[rows, j] = $j; sum[j] += $j; square[j] += $j * $j }
      y[rows] = ($NF == 0); columns = NF - 1 }
    function p(i,   z, j) { z = w[0]; for (j = 1; j <= columns; j++) z += w[j] * v[i, j]; return 1 / (1 + exp(-z)) }
    END {
      for (j = 1; j <= columns; j++) {
        mean = sum[j] / rows; spread = sqrt(square[j] / rows - mean * mean)
        for (i = 1; i <= rows; i++) v[i, j] = (v[i, j] - mean) / spread
      }
      if (first) { getline line < saved; for (j = 0; j <= columns; j++) { getline line < saved; w[j] = line + 0 } }
      for (i = 1; i <= rows; i++) if ((i - 1) % 5) train++
      for (epoch = first + 1; epoch <= last; epoch++) {
        for (j = 0; j <= columns; j++) g[j] = l2 * w[j]
        for (i = 1; i <= rows; i++) if ((i - 1) % 5) {
          e = (p(i) - y[i]) / train; g[0] += e
          for (j = 1; j <= columns; j++) g[j] += e * v[i, j]
        }
        for (j = 0; j <= columns; j++) w[j] -= rate * g[j]
        loss = right = test = 0
        for (i = 1; i <= rows; i += 5) {
          q = p(i); test++; right += (q > 0.5) == y[i]; q = y[i] ? q : 1 - q; loss -= log(q > 1e-15 ? q : 1e-15)
        }
        printf "{\"step\": %d, \"metrics\": {\"log_loss\": %.17g, \"accuracy\": %.17g}}\n", epoch, loss / test, right / test >> journal
      }
      print last > (saved ".new")
      for (j = 0; j <= columns; j++) printf "%.17g\n", w[j] > (saved ".new")
      printf "{\"log_loss\": %.17g, \"accuracy\": %.17g}\n", loss / test, right / test > (saved ".metrics")
    }' "$data")
  mv "$folder/state/weights.new" "$folder/state/weights"
  epoch=$last
done
cp "$folder/state/weights" "$folder/checkpoint/weights"
identity=$(sed -n '/"identity": {/,/}/p' "$spec" | sed -e '1s/.*{/{/' -e '$s/},*/}/')
printf '{"metrics": %s, "identity": %s}\n' "$(cat "$folder/state/weights.metrics")" "${identity:-{\}}"
