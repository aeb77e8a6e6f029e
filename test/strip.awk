# SPDX-License-Identifier: BSD-2-Clause
# Prints FILE:LINE: and the line without comments and without what is inside string literals.
FNR == 1 { inside = 0 }
{
    rest = $0
    out = ""
    if (!inside && rest !~ /^[ \t]*#[ \t]*include/) gsub(/"([^"\\]|\\.)*"/, "\"\"", rest)
    while (rest != "") {
        if (inside) {
            at = index(rest, "*/")
            if (at == 0) break
            rest = substr(rest, at + 2)
            inside = 0
        } else {
            block = index(rest, "/*")
            line = index(rest, "//")
            if (line && (!block || line < block)) {
                out = out substr(rest, 1, line - 1)
                break
            }
            if (!block) {
                out = out rest
                break
            }
            out = out substr(rest, 1, block - 1) " "
            rest = substr(rest, block + 2)
            inside = 1
        }
    }
    print FILENAME ":" FNR ":" out
}
