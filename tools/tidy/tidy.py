#!/usr/bin/env python3
"""Checks the rules of the source tree that a program can check. See README.md for the rules.

    python3 tools/tidy/tidy.py [--root FOLDER] [--rule NAME]... [--untracked] [--list]

Prints one line for each finding, `path:line: error: [rule] what is wrong and what would be right`, and a
closing line. Ends with 1 where there is an error; warnings alone end with 0.
"""

import argparse
import dataclasses
import os
import subprocess
import sys

import rules


@dataclasses.dataclass(frozen=True, order=True)
class Report:
    path: str
    line: int
    severity: str
    rule: str
    message: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.severity}: [{self.rule}] {self.message}"


NOT_SOURCES = {".git", "build", "target", "node_modules", "__pycache__", ".venv"}


def files_of(root, untracked=False):
    """Paths under root, with forward slashes: what git tracks (and does not ignore), or all files where root is no checkout."""
    if os.path.exists(os.path.join(root, ".git")):
        # A CI machine may run as another user than the one whom the checkout belongs to.
        command = ["git", "-c", f"safe.directory={os.path.realpath(root)}", "-C", root, "ls-files", "-z"]
        if untracked:
            command += ["--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode("utf-8", "surrogateescape")
        # A file that is deleted but not yet committed is still listed.
        return sorted(p for p in listed.split("\0") if p and os.path.isfile(os.path.join(root, p)))
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in NOT_SOURCES]
        found += [os.path.relpath(os.path.join(folder, name), root) for name in names]
    return sorted(path.replace(os.sep, "/") for path in found)


def check(root, names=None, untracked=False):
    """All reports of the named rules (default: every rule) on the tree at root, sorted by place, and the count of files."""
    tree = rules.Tree(root, files_of(root, untracked))
    reports = []
    for name, rule in rules.RULES.items():
        if names and name not in names:
            continue
        for finding in rule(tree):
            severity = "warning" if finding.warning else "error"
            reports.append(Report(finding.path, finding.line, severity, name, finding.message))
    return sorted(reports), len(tree.paths)


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Checks the rules of the source tree.")
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(here)), help="the tree to check")
    parser.add_argument("--rule", action="append", choices=sorted(rules.RULES), help="check only this rule")
    parser.add_argument("--untracked", action="store_true", help="check also what is not yet added to git")
    parser.add_argument("--list", action="store_true", help="print the rules and stop")
    options = parser.parse_args(arguments)

    if options.list:
        for name, rule in rules.RULES.items():
            print(f"{name:20} {rule.__doc__.splitlines()[0]}")
        return 0
    reports, files = check(options.root, options.rule, options.untracked)
    for report in reports:
        print(report)
    errors = sum(report.severity == "error" for report in reports)
    print(f"tidy: {errors} errors, {len(reports) - errors} warnings in {files} files")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
