# SPDX-License-Identifier: BSD-2-Clause
# Makes of what abidw writes of libcctx.so what a program can see of it: a struct is opaque unless its tag
# is in public, as in " cctx_cause cctx_key "; types that nothing leads to are left out. (abidw's own
# --headers-dir goes by the names of files, by which src/domain.h is public, and which it misreads in
# clang's debug information.)
function keep(id,    n, i, ref) {
    if (kept[id]++) return
    n = split(block[id], ref, "type-id='")
    for (i = 2; i <= n; i++) reach(substr(ref[i], 1, index(ref[i], "'") - 1))
}
function reach(type) { if (type in at) keep(at[type]) }

function entry(text,    head, tag) {
    head = text
    sub(/\n.*/, "", head)
    tag = head
    sub(/^[^']* name='/, "", tag)
    sub(/'.*/, "", tag)
    if (head ~ /<(class|union)-decl / && head !~ /is-declaration-only/ && !index(public, " " tag " ")) {
        text = head
        sub(/ size-in-bits='[0-9]*'/, "", text)
        sub(/ visibility='default'/, "& is-declaration-only='yes'", text)
        sub(/\/?>$/, "/>", text)
    }
    block[++blocks] = text
    if (match(text, / id='[^']*'/)) at[substr(text, RSTART + 5, RLENGTH - 6)] = blocks
    if (text ~ /^ *<(function-decl|var-decl|\/?abi-)/ || !inside) root[blocks] = 1
}

/^  <abi-instr / { inside = 1; sub(/path='.*\/src\//, "path='src/"); entry($0); next }
/^  <\/abi-instr>/ { entry($0); inside = 0; next }
!inside { entry($0); next }
/^    <[^\/]/ { part = $0; if ($0 ~ /\/>$/) entry(part); next }
{ part = part "\n" $0 }
/^    <\// { entry(part) }

END {
    for (i = 1; i <= blocks; i++) if (i in root) keep(i)
    for (i = 1; i <= blocks; i++) if (kept[i]) print block[i]
}
