# SPDX-License-Identifier: BSD-2-Clause
# What the check scripts share: a folder of their own, and the test of the check itself by planted faults.
# A script defines check ROOT, which prints one line for each fault and fails if there is one.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
self=$(basename "$0")
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# accepts WHAT: the tree in $tmp/tree has no fault.
accepts() {
    if check "$tmp/tree" >"$tmp/log" 2>&1; then
        echo "accepted: $1"
    else
        cat "$tmp/log"
        echo "$self: rejected, though right: $1"
        exit 1
    fi
}

# rejects WHAT WORDS: the tree in $tmp/tree has a fault that the check reports with these words.
rejects() {
    if check "$tmp/tree" >"$tmp/log" 2>&1; then
        echo "$self: accepted, though wrong: $1"
        exit 1
    elif ! grep -qF -- "$2" "$tmp/log"; then
        cat "$tmp/log"
        echo "$self: rejected, but not for this reason: $1"
        exit 1
    fi
    echo "rejected: $1"
}

# plant FILE SCRIPT: edits a file of the fresh tree with sed; a script that changes nothing plants nothing.
plant() {
    sed "$2" "$tmp/tree/$1" >"$tmp/planted"
    if cmp -s "$tmp/planted" "$tmp/tree/$1"; then
        echo "$self: this plants nothing: $2"
        exit 1
    fi
    cp "$tmp/planted" "$tmp/tree/$1"
}
