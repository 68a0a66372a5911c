#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A classifier of nearest neighbours in awk: a script that knows nothing of magpie.
#
#   knn.sh TABLE.csv NEIGHBOURS POWER [WEIGHT...]
#
# Each fifth of the table is told from the other four; it prints "fold 3: accuracy 0.93" for each, of all folds so far.
# POWER is that of the distance (1 = Manhattan, 2 = Euclid); WEIGHT scales a column.
set -eu
table=$1 neighbours=$2 power=$3
shift 3

awk -F, -v k="$neighbours" -v power="$power" -v weights="$*" '
function distance(a, b,    c, d, sum) {
    for (c = 1; c < columns; c++) {
        d = (cell[a, c] - cell[b, c]) * weight[c]
        sum += (d < 0 ? -d : d) ^ power
    }
    return sum
}
# The kind that most of the k nearest rows outside the fold have.
function guess(row,    other, i, j, n, near, kind, votes, best) {
    n = 0
    for (other = 1; other <= rows; other++) {
        if (other % 5 == row % 5) continue
        d = distance(row, other)
        if (n == k && d >= near[n]) continue
        if (n < k) n++
        for (i = n; i > 1 && near[i - 1] > d; i--) { near[i] = near[i - 1]; kind[i] = kind[i - 1] }
        near[i] = d; kind[i] = cell[other, columns]
    }
    best = ""
    for (j = 1; j <= n; j++)
        if (++votes[kind[j]] > votes[best]) best = kind[j]
    return best
}
BEGIN { split(weights, weight, " ") }
NR == 1 { columns = NF; for (c = 1; c < NF; c++) if (weight[c] == "") weight[c] = 1; next }
{ rows++; for (c = 1; c <= NF; c++) cell[rows, c] = $c }
END {
    for (fold = 0; fold < 5; fold++) {
        for (row = 1; row <= rows; row++)
            if (row % 5 == fold) { asked++; right += guess(row) == cell[row, columns] }
        printf "fold %d: accuracy %.4f\n", fold + 1, right / asked
        fflush()
    }
}' "$table"
