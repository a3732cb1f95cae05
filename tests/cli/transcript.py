#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs golden files and compares.

    transcript.py [--update] DIR FILE...

A golden file holds commands and what they print:

    $ tidegate -s nobody agent list
    2> Error: tidegated is not running: nobody listens at nobody
    [3]

A line that starts with `$ ` is run by sh in DIR; the output follows, then what went to
stderr with `2> ` before it, then the exit status in brackets if it is not 0. Other lines
before the first command are comments. In *.exact files the output must be the same, in *.glob
files `*` in a line stands for any text. `--update` writes down what was printed where it differs.
Each command counts as one test.
"""
import os
import re
import subprocess
import sys


def parse(text):
    """Comment lines, and (command, expected lines) in the order of the file."""
    comments, cases = [], []
    for line in text.splitlines():
        if line.startswith("$ "):
            cases.append((line[2:], []))
        elif cases:
            cases[-1][1].append(line)
        else:
            comments.append(line)
    return comments, cases


def run(command, cwd):
    done = subprocess.run(["sh", "-c", command], cwd=cwd, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    lines = done.stdout.decode("utf-8", "backslashreplace").splitlines()
    lines += ["2> " + line for line in done.stderr.decode("utf-8", "backslashreplace").splitlines()]
    if done.returncode:
        lines.append("[%d]" % done.returncode)
    return lines


def strip(lines):
    """Without empty lines at the end: they separate the commands in a file."""
    while lines and not lines[-1]:
        lines = lines[:-1]
    return lines


def glob(pattern, line):
    # Only `*` is special: brackets are all over JSON.
    return re.fullmatch(".*".join(re.escape(p) for p in pattern.split("*")), line) is not None


def same(want, got, exact):
    if exact or len(want) != len(got):
        return want == got
    return all(glob(w, g) for w, g in zip(want, got))


def loose(line):
    """A printed line as a pattern: times, digests, versions of libraries may differ."""
    line = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", "*", line)
    line = re.sub(r"[0-9a-f]{64}", "*", line)
    line = re.sub(r"((?:libbpf|jansson|zstd|grammar)(?:\": *\"| ))v?[\d.]+", r"\1*", line)
    return line


def main():
    args = sys.argv[1:]
    update = args[:1] == ["--update"]
    if update:
        args = args[1:]
    cwd, files = args[0], args[1:]
    passed = failed = 0
    for path in files:
        exact = path.endswith(".exact")
        with open(path, encoding="utf-8") as f:
            comments, cases = parse(f.read())
        out = list(comments)
        bad = 0
        for command, want in cases:
            got = strip(run(command, cwd))
            good = same(strip(want), got, exact)
            keep = strip(want) if good or not update else got if exact else [loose(g) for g in got]
            out += ["$ " + command] + keep + [""]
            if good or update:
                passed += 1
                continue
            failed += 1
            bad += 1
            print("  FAIL    %s: %s" % (os.path.basename(path), command))
            for line in strip(want):
                print("          - " + line)
            for line in got:
                print("          + " + line)
        if not bad:
            print("  ok      %-24s %3d passed" % (os.path.basename(path), len(cases)))
        if update:
            with open(path, "w", encoding="utf-8") as f:
                f.write("\n".join(strip(out)) + "\n")
    print("%d %d" % (passed, failed))
    return 0


sys.exit(main())
