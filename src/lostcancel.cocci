// SPDX-License-Identifier: BSD-2-Clause
// lostcancel: a context that a function makes and, on one of its ways out, neither closes, unrefs, returns, stores nor
// gives away. It needs no build and no headers:
//
//     spatch --very-quiet --sp-file lostcancel.cocci FILE.c...
//
// A line of output is a finding. What takes a `const cctx_t *` by a declaration or definition in the same file, and
// each function of cctx, borrows; any other function that gets the context may keep it, so then nothing is said. It
// does not see what a macro does, and a variable that is given a second context. gcc -fanalyzer, which needs no rule,
// sees more; it takes a context that was passed to cctx_cancel for given away, which this rule does not.

@initialize:python@
@@
import re
borrowers, said = set(), set()

def keeps(function):
    return not function.startswith("cctx_") and function not in borrowers

def say(made, way_out):
    with open(made.file) as f:
        text = "".join(f.readlines()[int(made.line) - 1 : int(made.line_end)])
    place = (made.file, made.line)
    if place not in said and not re.search(r"\bCCTX_SCOPED", text):
        said.add(place)
        print("%s:%s: this context is lost by the way out in line %s" % (made.file, made.line, way_out.line))

@prototype@
typedef cctx_t;
type T;
identifier f, p;
@@
T f(..., const cctx_t *p, ...);

@script:python@
f << prototype.f;
@@
borrowers.add(f)

@definition@
identifier f, p;
@@
f(..., const cctx_t *p, ...) { ... }

@script:python@
f << definition.f;
@@
borrowers.add(f)

// Where the program looks whether it has got a context, the way out from there loses none.
@checked exists@
type T, U;
identifier v, w;
identifier make =~ "^cctx_with(out)?_";
identifier keeper : script:python() { keeps(keeper) };
expression other;
position p, q;
statement S;
@@
(
T v = make@p(...);
|
T v;
... when any
v = make@p(...);
)
... when != v
if (v == NULL) S
... when != other = v
    when != cctx_close(v)
    when != cctx_unref(v)
    when != keeper(..., v, ...)
    when != return v;
(
 return v;
|
 return@q ...;
)

@script:python@
p << checked.p;
q << checked.q;
@@
say(p[0], q[0])

@unchecked exists@
type T, U;
identifier v, w;
identifier make =~ "^cctx_with(out)?_";
identifier keeper : script:python() { keeps(keeper) };
expression other;
position p, q;
@@
(
T v = make@p(...);
|
T v;
... when any
v = make@p(...);
)
... when != v == NULL
    when != v != NULL
    when != other = v
    when != U w = v;
    when != U w = {..., v, ...};
    when != U w[...] = {..., v, ...};
    when != cctx_close(v)
    when != cctx_unref(v)
    when != keeper(..., v, ...)
    when != return v;
(
 return v;
|
 return@q ...;
)

@script:python@
p << unchecked.p;
q << unchecked.q;
@@
say(p[0], q[0])
