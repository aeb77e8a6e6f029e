# SPDX-License-Identifier: BSD-2-Clause
"""Mutants: small faults in src, one at a time, each of which some test must kill.

The candidates are made by rule from every line of every function of src, as it is compiled into the release build
(the branches for the model, the scheduler and CCTX_CHECK are others' business, and so are memory orders, which the
models weaken one by one). A sample of them, drawn with a fixed seed and spread over all files, is test/mutants.list.
An entry names file, function, rule and the whole old and new line, so that it outlives the lines around it:

    src/cell.c cell_spill dropped call
    - cell_back(m->cell[i]);
    + ;
    ! equivalent: why no test can tell          (or  ! survives: why none does)

A candidate that does not compile, or compiles to the code that was there before, is not drawn.
"""
import argparse
import concurrent.futures
import filecmp
import hashlib
import json
import os
import queue
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
LIST = os.path.join(HERE, "mutants.list")
SURVIVORS = 3           # so many may be left, each with its reason
COUNT = 96              # of the sample
SEED = 1
QUICK = ("alloc_test", "clock_test", "derive_test", "done_test", "epoch_test", "look_test", "table_test", "wait_test")

# ---- the candidates

NOT_COMPILED = re.compile(r"#\s*(if|ifdef|elif)\s+(SYNC_RELACY|SYNC_SEEDED|defined SYNC_RELACY|CCTX_CHECK|defined __SANITIZE|SYNC_TSAN)\b")


def mask(text):
    """The text with comments and strings blanked, of the same length."""
    def blank(m):
        return re.sub(r"[^\n]", " ", m.group(0))
    return re.sub(r'/\*.*?\*/|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'', blank, text, flags=re.S)


def compiled(lines):
    """Which lines the release build compiles."""
    keep, stack = [], []
    for line in lines:
        if re.match(r"#\s*if", line):
            negated = re.match(r"#\s*(ifndef\s+SYNC_RELACY|if\s+!defined SYNC_RELACY)", line)
            stack.append(True if negated or not NOT_COMPILED.match(line) else False)
            keep.append(False)
        elif re.match(r"#\s*(else|elif)", line):
            stack[-1] = not NOT_COMPILED.match(line) if "elif" in line else not stack[-1]
            keep.append(False)
        elif re.match(r"#\s*endif", line):
            stack.pop()
            keep.append(False)
        else:
            keep.append(all(stack) and not line.startswith("#"))
    return keep


HEAD = re.compile(r"^(?:static (?:inline )?__attribute__\(\(\w+\)\) )?(?!typedef|struct\s+\w+\s*\{|enum|extern|_Static|#|/)[A-Za-z_].*?\b(\w+)\(")


def functions(text):
    """(name, first line, end) of each function: from its head to the line of its closing brace."""
    lines = mask(text).split("\n")
    at = 0
    while at < len(lines):
        m = HEAD.match(lines[at])
        if not m:
            at += 1
            continue
        first, depth, opened = at, 0, False
        while at < len(lines):
            if not opened and depth == 0 and re.search(r";\s*$", lines[at]) and "{" not in lines[at]:
                break
            depth += lines[at].count("{") - lines[at].count("}")
            opened = opened or "{" in lines[at]
            if opened and depth == 0:
                yield m.group(1), first, at + 1
                break
            at += 1
        at += 1


SWAPS = {
    "bound": [(" < ", " <= "), (" <= ", " < "), (" > ", " >= "), (" >= ", " > ")],
    "comparison": [(" == ", " != "), (" != ", " == ")],
    "arithmetic": [(" + ", " - "), (" - ", " + "), (" * ", " + "), (" / ", " * "), ("++", "--"), (" += ", " -= "),
                   (" -= ", " += ")],
    "logic": [(" && ", " || "), (" || ", " && ")],
    "bits": [(" | ", " & "), (" & ", " | "), (" ^ ", " | "), ("~", ""), (" << ", " >> "), (" >> ", " << ")],
    "negation": [("!(", "("), ("(!", "(")],
    "constant": [("true", "false"), ("false", "true")],
}
CALL = re.compile(r"^(else )?(?!return\b|if\b|for\b|while\b|do\b|switch\b|sync_set\(w->cause)(\w+)\(.*\);$")
STORE = re.compile(r"^(else )?[\w>.\-\[\]*()]+ [|&+-]?= .*;$")
SIMPLE = re.compile(r"^(?!return\b|goto\b|break\b|continue\b|if\b|for\b|while\b|do\b|else\b|case\b|default\b)[\w>.\-\[\]*()]+(\(.*\)| [|&+-]?= .*);$")
DECLARED = re.compile(r"^(const |static |struct |enum |unsigned |bool |size_t |u?int\w*_t |uintptr_t |void |char |int |long )")


def line_mutants(line, following):
    """(rule, new line) of one stripped line; following is the next stripped line."""
    masked = mask(line)
    begin = 0
    if masked.startswith("for ("):                      # the head of a for is searched whole
        begin = 0
    for rule, pairs in SWAPS.items():
        for old, new in pairs:
            at = masked.find(old, begin)
            while at >= 0:
                yield rule, line[:at] + new + line[at + len(old):]
                at = masked.find(old, at + len(old))
    for m in re.finditer(r"(?<![\w.])(\d+)(u?)(?![\w.])", masked):
        for value in {int(m.group(1)) + 1, 0 if int(m.group(1)) else 1}:
            yield "constant", line[:m.start()] + str(value) + m.group(2) + line[m.end():]
    m = re.match(r"^(\} )?(else )?(if|while) \((.*)\)( \{| .*;|)$", masked)
    if m and m.group(4).count("(") == m.group(4).count(")"):
        inner = line[m.start(4):m.end(4)]
        depth, least = 0, 1
        for c in masked[m.start(4):m.end(4)]:
            depth += (c == "(") - (c == ")")
            least = min(least, depth)
        if least >= 0:
            yield "negated condition", line[:m.start(4)] + "!(" + inner + ")" + line[m.end(4):]
    m = re.match(r"^while \(!(sync_cas\w*\(.*\))\);$", masked)
    if m:
        yield "removed retry", line[:m.start(1) - 1] + "!" + line[m.start(1):m.end(1)] + " && false);"
    if line == "continue;":
        yield "removed retry", "break;"
    if line == "break;":
        yield "removed end", ";"
    m = CALL.match(masked)
    if m and not DECLARED.match(line):
        yield "dropped call", (m.group(1) or "") + ";"
    m = STORE.match(masked)
    if m and not DECLARED.match(line):
        yield "dropped store", (m.group(1) or "") + ";"
    m = re.match(r"^(.*\bif \(.*\)) (return.*;|continue;|break;)$", masked)
    if m:
        yield "dropped exit", line[:m.end(1)] + " {}"
    if SIMPLE.match(masked) and SIMPLE.match(mask(following)) and not DECLARED.match(line) and not DECLARED.match(following):
        yield "swapped order", following + " " + line


def candidates(folder):
    """Every (file, function, rule, old, new, occurrence) of the sources in folder."""
    for name in sorted(os.listdir(os.path.join(folder, "src"))):
        if not name.endswith((".c", ".h")):
            continue
        path = "src/" + name
        with open(os.path.join(folder, path)) as f:
            text = f.read()
        lines, masked = text.split("\n"), mask(text).split("\n")
        keep = compiled(lines)
        for function, first, end in functions(text):
            seen = {}
            for at in range(first, end):
                old = lines[at].strip()
                code = masked[at].strip()
                nth = seen[old] = seen.get(old, 0) + 1
                if not keep[at] or not code or code in "{}":
                    continue
                if at == first and "{" not in code:
                    continue
                following = masked[at + 1].strip() if at + 1 < end - 1 and keep[at + 1] else ""
                body = old
                shift = 0
                if at == first:                         # a function of one line: its body
                    shift = old.index("{")
                    body = old[shift:]
                for rule, new in line_mutants(body, lines[at + 1].strip() if following else ""):
                    pair = rule == "swapped order"
                    yield {"file": path, "function": function, "rule": rule,
                           "old": old + ("\n" + lines[at + 1].strip() if pair else ""),
                           "new": old[:shift] + new, "nth": nth, "note": ""}


# ---- the list

def read_list():
    entries = []
    with open(LIST) as f:
        for line in f:
            line = line.rstrip("\n")
            if not line or line.startswith("#"):
                continue
            if line.startswith("- "):
                entries[-1]["old"] += ("\n" if entries[-1]["old"] else "") + line[2:]
            elif line.startswith("+ "):
                entries[-1]["new"] = line[2:]
            elif line.startswith("! "):
                entries[-1]["note"] += (" " if entries[-1]["note"] else "") + line[2:]
            else:
                path, function, rule = line.split(" ", 2)
                nth = 1
                m = re.match(r"(.*) \((\d+)\)$", rule)
                if m:
                    rule, nth = m.group(1), int(m.group(2))
                entries.append({"file": path, "function": function, "rule": rule, "nth": nth, "old": "", "new": "",
                                "note": ""})
    return entries


def write_list(entries):
    with open(LIST, "w") as f:
        f.write("# SPDX-License-Identifier: BSD-2-Clause\n"
                "# The mutants of test/mutants: file, function, rule (which of several equal lines), old line, new line.\n"
                "# Drawn by test/mutants --generate; what begins with an exclamation mark is said of one that is left.\n")
        for e in entries:
            f.write("\n%s %s %s%s\n" % (e["file"], e["function"], e["rule"], " (%d)" % e["nth"] if e["nth"] > 1 else ""))
            for line in e["old"].split("\n"):
                f.write("- %s\n" % line)
            f.write("+ %s\n" % e["new"])
            if e["note"]:
                f.write("! %s\n" % e["note"])


def mutated(entry, text):
    """The text with the mutant in it, or None: what it changes is gone."""
    lines = text.split("\n")
    old = entry["old"].split("\n")
    for function, first, end in functions(text):
        if function != entry["function"]:
            continue
        left = entry["nth"]
        for at in range(first, end):
            if lines[at].strip() != old[0]:
                continue
            left -= 1
            if left > 0:
                continue
            if [l.strip() for l in lines[at:at + len(old)]] != old:
                break
            indent = lines[at][:len(lines[at]) - len(lines[at].lstrip())]
            return "\n".join(lines[:at] + [indent + entry["new"]] + [""] * (len(old) - 1) + lines[at + len(old):])
    return None


# ---- drawing the sample

CFLAGS = ["-std=gnu11", "-D_GNU_SOURCE", "-O2", "-w", "-fno-strict-aliasing", "-pthread"]


def code_of(folder, path):
    """The machine code of a source, or of a source that uses a header; None: it does not compile."""
    if path.endswith(".h"):
        sources = sorted(f for f in os.listdir(os.path.join(folder, "src")) if f.endswith(".c"))
    else:
        sources = [os.path.basename(path)]
    digest = hashlib.sha1()
    for source in sources:
        run = subprocess.run([os.environ.get("CC", "cc"), *CFLAGS, "-I" + folder + "/include", "-S", "-o", "-",
                              folder + "/src/" + source], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if run.returncode != 0:
            return None
        digest.update(run.stdout)
    return digest.hexdigest()


def generate(count, seed):
    with tempfile.TemporaryDirectory() as tmp:
        for part in ("src", "include"):
            shutil.copytree(os.path.join(ROOT, part), os.path.join(tmp, part))
        draw(tmp, count, seed)


def draw(folder, count, seed):
    by_file = {}
    for c in candidates(folder):
        by_file.setdefault(c["file"], []).append(c)
    notes = {}
    if os.path.exists(LIST):
        notes = {(e["file"], e["function"], e["old"], e["new"]): e["note"] for e in read_list()}
    # A file's share grows with the root of its candidates, so that no file is without and none has all.
    weight = {path: len(found) ** 0.5 for path, found in by_file.items()}
    chosen = []
    for path in sorted(by_file):
        # By a hash of each, so that a change of the sources changes few of the draws.
        pool = sorted(by_file[path], key=lambda c: hashlib.sha1(repr(
            (seed, c["function"], c["rule"], c["old"], c["new"], c["nth"])).encode()).digest())
        share = max(1, min(len(pool), round(count * weight[path] / sum(weight.values()))))
        with open(os.path.join(folder, path)) as f:
            text = f.read()
        plain = code_of(folder, path)
        if plain is None:
            sys.exit("mutants: %s does not compile as it is" % path)
        used, lines, taken = {}, set(), 0
        # One mutant a line, and a function gets a second one when each has had its first.
        for turn in range(1, 9):
            for c in pool:
                line = (c["function"], c["old"].split("\n")[0])
                if taken == share or used.get(c["function"], 0) >= turn or line in lines:
                    continue
                lines.add(line)
                with open(os.path.join(folder, path), "w") as f:
                    f.write(mutated(c, text))
                code = code_of(folder, path)
                if code is None or code == plain:
                    continue
                used[c["function"]] = used.get(c["function"], 0) + 1
                taken += 1
                c["note"] = notes.get((c["file"], c["function"], c["old"], c["new"]), "")
                chosen.append(c)
        with open(os.path.join(folder, path), "w") as f:
            f.write(text)
        print("%-16s %4d candidates, %d drawn" % (path, len(pool), taken), flush=True)
    write_list(chosen)
    print("%d candidates, %d drawn" % (sum(len(found) for found in by_file.values()), len(chosen)))


# ---- running

class Tree:
    """A copy of the project with a build of its own."""

    def __init__(self, folder, only, jobs):
        """only: the tests that are used, or None for all."""
        self.folder, self.build, self.only = folder, os.path.join(folder, "build"), only
        for part in ("src", "include", "test", "fuzz", "CMakeLists.txt", "README.md", "LICENSE"):
            self.copy(os.path.join(ROOT, part), os.path.join(folder, part))
        self.call(["cmake", "-S", folder, "-B", self.build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Mutant",
                   "-DCMAKE_C_FLAGS=-O1", "-DCMAKE_CXX_FLAGS=-O1", "-DCCTX_TESTS_ONCE=ON"])
        names = [t["name"] for t in self.tests() if t["label"] != "model"]
        self.call(["ninja", "-C", self.build, "-j%d" % jobs, "-k0", *names], fatal=False)

    def copy(self, source, target):
        """What has not changed keeps its time, so that a build that is kept goes on."""
        if os.path.isdir(source):
            os.makedirs(target, exist_ok=True)
            for name in os.listdir(source):
                self.copy(os.path.join(source, name), os.path.join(target, name))
        elif os.path.exists(source) and not (os.path.exists(target) and filecmp.cmp(source, target, False)):
            shutil.copy(source, target)

    def call(self, command, fatal=True):
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if run.returncode != 0 and fatal:
            sys.exit("mutants: %s fails:\n%s" % (" ".join(command), run.stdout[-3000:]))
        return run.stdout

    def tests(self):
        """Those that run the library: name, label, command."""
        shown = json.loads(self.call(["ctest", "--test-dir", self.build, "--show-only=json-v1"]))
        targets = set(re.findall(r"^([\w.-]+): phony$", self.call(["ninja", "-C", self.build, "-t", "targets", "all"]), re.M))
        found = []
        for t in shown["tests"]:
            properties = {p["name"]: p["value"] for p in t["properties"]}
            label = (properties.get("LABELS") or ["unit"])[0]
            if self.only is not None and t["name"] not in self.only:
                continue
            if label in ("unit", "stress", "model") and t["name"] in targets:
                command = [a.replace(self.folder, "@") for a in t.get("command", [])]
                found.append({"name": t["name"], "label": label, "command": command})
        return found

    def compile(self, target):
        run = subprocess.run(["ninja", "-C", self.build, "-j1", target], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return run.returncode == 0

    def run(self, test, limit):
        """None: passed. Else what happened."""
        if not test["command"]:                 # ctest knows it once it is built
            test["command"] = next(t["command"] for t in self.tests() if t["name"] == test["name"])

        def alone():
            os.setsid()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
        with open(os.path.join(self.folder, "log"), "w") as log:
            child = subprocess.Popen([a.replace("@", self.folder) for a in test["command"]], stdin=subprocess.DEVNULL,
                                     stdout=log, stderr=log, preexec_fn=alone, cwd=os.path.join(self.build, "test"),
                                     env=dict(os.environ, CCTX_SEED="1"))
            try:
                status = child.wait(limit)
            except subprocess.TimeoutExpired:
                status = None
            try:
                os.killpg(child.pid, signal.SIGKILL)    # a test's children, too
            except ProcessLookupError:
                pass
            child.wait()
        with open(os.path.join(self.folder, "log"), errors="replace") as log:
            if status is None or "watchdog: it hangs" in log.read():
                return "time"
        return None if status == 0 else "signal %d" % -status if status < 0 else "exit %d" % status


def own_test(entry):
    return re.sub(r".*/|\.[ch]$", "", entry["file"]) + "_test"


def order(tests, entry, seconds):
    """The module's own test, then the cheap ones, then models, which are compiled for each mutant."""
    def rank(t):
        return t["name"] != own_test(entry), t["label"] == "model", t["label"] == "stress", seconds.get(t["name"], 0)
    return sorted(tests, key=rank)


def try_mutant(tree, tests, entry, seconds):
    path = os.path.join(tree.folder, entry["file"])
    with open(path) as f:
        text = f.read()
    changed = mutated(entry, text)
    if changed is None:
        return "stale", "what it changes is not there any more"

    def put(what):
        with open(path, "w") as f:
            f.write(what)
    try:
        for test in order(tests, entry, seconds):
            put(changed)
            if not tree.compile(test["name"]):
                return "stale", "it does not compile"
            limit = 20 + 4 * seconds.get(test["name"], 20)
            happened = tree.run(test, limit)
            if happened == "time":
                # The machine may be slow just now: without the mutant it must pass in the same time.
                put(text)
                if tree.compile(test["name"]) and tree.run(test, limit) is None:
                    return "killed", test["name"] + " (by its time limit)"
            elif happened:
                return "killed", "%s (%s)" % (test["name"], happened)
    finally:
        put(text)
    return "SURVIVED", ""


def show(entry):
    return "%s %s, %s: %s  ->  %s" % (entry["file"], entry["function"], entry["rule"], entry["old"].replace("\n", " "),
                                     entry["new"])


def run_all(entries, jobs, work, only):
    began = time.time()
    folder = work or tempfile.mkdtemp(prefix="mutants.")
    try:
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            trees = list(pool.map(lambda i: Tree(os.path.join(folder, str(i)), only, 1 if jobs > 1 else 2), range(jobs)))
        every = trees[0].tests()
        runs = [t for t in every if t["label"] != "model"]
        seconds, failed = {}, []

        def first_run(tree, mine):
            for test in mine:
                start = time.time()
                happened = tree.run(test, 300) if tree.compile(test["name"]) else "it does not build"
                seconds[test["name"]] = time.time() - start
                if happened:
                    failed.append(test["name"])
                    print("mutants: not used: %s fails with no mutant (%s)" % (test["name"], happened), flush=True)
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            for done in [pool.submit(first_run, trees[i], runs[i::jobs]) for i in range(jobs)]:
                done.result()
        tests = [t for t in every if t["name"] not in failed]
        print("%d tests pass with no mutant, %d s" % (len(runs) - len(failed), time.time() - began), flush=True)
        free = queue.Queue()
        for tree in trees:
            free.put(tree)
        counts = {"killed": 0, "SURVIVED": 0, "stale": 0, "by its time limit": 0}
        bad, lock = [], threading.Lock()

        def one(entry):
            tree = free.get()
            try:
                verdict, how = try_mutant(tree, tests, entry, seconds)
            finally:
                free.put(tree)
            with lock:
                counts[verdict] += 1
                counts["by its time limit"] += "time limit" in how
                note = entry["note"]
                if verdict == "SURVIVED" and note:
                    how = note
                elif verdict != "killed":
                    bad.append(entry)
                elif note:
                    bad.append(entry)
                    how += ", though the list says: " + note
                print("%-9s %s\n          %s" % (verdict, show(entry), how), flush=True)

        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            for done in [pool.submit(one, e) for e in entries]:
                done.result()
    finally:
        if not work:
            shutil.rmtree(folder, ignore_errors=True)
    print("%d mutants: %d killed (%d by a time limit), %d left, %d s" %
          (len(entries), counts["killed"], counts["by its time limit"], counts["SURVIVED"], time.time() - began))
    for entry in bad:
        print("mutants: not as it should be: " + show(entry))
    return 1 if bad or failed else 0


def main():
    parser = argparse.ArgumentParser(prog="test/mutants", description="Puts small faults into the library, one at a "
                                     "time, and shows which test kills each.")
    parser.add_argument("--list", action="store_true", help="print the mutants; 1 if one is stale: what it changes is not there any more")
    parser.add_argument("--only", metavar="REGEX", default="", help="only those whose line has a match")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once (2)")
    parser.add_argument("--work", metavar="FOLDER", help="keep the builds in FOLDER, and go on with those there")
    parser.add_argument("--self-test", action="store_true", help="a few of them, each by the test of its own file")
    parser.add_argument("--equivalent", action="store_true", help="those said to be equivalent: none may be killed")
    parser.add_argument("--generate", action="store_true", help="draw the list anew from the sources as they are")
    parser.add_argument("--count", type=int, default=COUNT, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=SEED, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.generate:
        generate(options.count, options.seed)
        return 0
    entries = [e for e in read_list() if re.search(options.only, show(e))]
    equivalent = [e for e in entries if e["note"].startswith("equivalent: ")]
    survive = [e for e in entries if e["note"].startswith("survives: ")]
    if options.list:
        stale = 0
        for e in entries:
            with open(os.path.join(ROOT, e["file"])) as f:
                gone = mutated(e, f.read()) is None
            stale += gone
            print(("stale: " if gone else "") + show(e) + ("\n    " + e["note"] if e["note"] else ""))
        print("%d mutants, %d of them equivalent, %d that survive" % (len(entries), len(equivalent), len(survive)))
        return 1 if stale else 0
    if len(survive) > SURVIVORS:
        print("mutants: %d are said to survive, %d may" % (len(survive), SURVIVORS))
        return 1
    run = equivalent if options.equivalent else [e for e in entries if e not in equivalent]
    only = None
    if options.self_test:
        first = {own_test(e): e for e in reversed(run)}
        run = [first[name] for name in QUICK if name in first]
        only, options.jobs = set(QUICK), 1
    print("%d equivalent ones are in the list, %s" % (len(equivalent), "run here" if options.equivalent else "not run"))
    return run_all(run, options.jobs, options.work, only)


if __name__ == "__main__":
    sys.exit(main())
