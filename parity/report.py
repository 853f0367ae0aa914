"""Verdicts from counts, the tables that show them, and the JSON file that keeps them.

Imports torch for its version only.
"""

import json
from collections import Counter
from pathlib import Path

import torch

GOOD = ("ok", "ok_by_float64", "ok_shape")  # ok_empty decides only where there is nothing else
BAD = ("missing", "error", "wrong")  # a sample that counts against the implementation
UNCOUNTED = ("unsupported", "reference")  # a sample that does not count at all
VERDICTS = ("pass", "partial", *BAD, "crash", "skipped")
MODES = ("forward", "backward")


def total(parts):
    """The sum of counters."""
    return sum((Counter(p) for p in parts), Counter())


def merge(parts):
    """The sum of {variant: counts}, variant by variant."""
    variants = dict.fromkeys(v for part in parts for v in part)
    return {v: total(part.get(v, {}) for part in parts) for v in variants}


def verdict(variants):
    """Of the counts of one or several variants; where nothing passes, that of the function."""
    counts = total(variants.values())
    ok, bad = (sum(counts[k] for k in kinds) for kinds in (GOOD, BAD))
    if counts["crash"]:
        return "crash"
    if not bad:
        return "pass" if ok or counts["ok_empty"] else "skipped"
    if ok:
        return "partial"
    function = variants.get("function", {})
    counts = function if any(function.get(k) for k in BAD) else counts
    return next(k for k in ("wrong", "error", "missing") if counts.get(k))


def entry_report(key, info, results):
    """What all tasks of one entry gave together, per mode."""
    parts = [(task[2], r) for task, r in results.items() if task[0] == key]
    entry = {"entry": key, "name": info["name"], "space": info["space"]}
    entry["seconds"] = round(sum(r["seconds"] for _, r in parts), 3)
    for mode in MODES:
        variants = merge([r["counts"] for m, r in parts if m == mode])
        if mode == "forward" or variants:
            counts = total(variants.values())
            entry[mode] = {"verdict": verdict(variants), "counts": counts, "variants": variants}
    entry["messages"] = [m for _, r in parts for m in r["messages"]]
    return entry


def counted(entries, mode):
    """The entries that a mode was run on; one without any gradient has no backward."""
    return [
        e for e in entries if mode in e and (mode == "forward" or e[mode]["verdict"] != "skipped")
    ]


def verdicts_by_name(entries, mode):
    """name -> verdict over all its entries."""
    groups = {}
    for e in counted(entries, mode):
        groups.setdefault(e["name"], []).append(e[mode]["variants"])
    return {name: verdict(merge(group)) for name, group in groups.items()}


def print_table(title, rows):
    """Counts of verdicts, a line per (label, verdicts)."""
    width = max(len(label) for label, _ in rows) + 2
    print(f"\n{title}\n{'':{width}}{'total':>8}" + "".join(f"{v:>9}" for v in VERDICTS))
    for label, verdicts in rows:
        c = Counter(verdicts)
        cells = "".join(f"{c[v] or '-':>9}" for v in VERDICTS)
        print(f"{label:{width}}{sum(c.values()):8}{cells}")


def print_mode(entries, names, spaces, mode):
    """The table of one mode: by name, entry, space and variant; then what its samples gave."""
    space_of = {e["name"]: e["space"] for e in entries}
    entries = [e[mode] for e in counted(entries, mode)]
    rows = [("names", names.values()), ("entries", [e["verdict"] for e in entries])]
    for space in spaces:
        if verdicts := [v for name, v in names.items() if space_of[name] == space]:
            rows.append((f"  {space}", verdicts))
    variants = dict.fromkeys(v for e in entries for v in e["variants"])
    for v in variants if len(variants) > 1 else ():
        verdicts = [verdict({v: e["variants"][v]}) for e in entries if v in e["variants"]]
        rows.append((f"  variant {v}", verdicts))
    print_table(mode, rows)
    samples = total(e["counts"] for e in entries)
    print("samples:", ", ".join(f"{kind} {n}" for kind, n in samples.most_common()))
    by_value = {"ok", "ok_by_float64"}
    shapes = sum(e["verdict"] == "pass" and not set(e["counts"]) & by_value for e in entries)
    print(f"{shapes} of the passing entries by shape and dtype only (random or uninitialised)")


def print_failures(entries):
    """A line per entry that does not pass, with its worst first message."""
    for e in entries:
        shown = [f"{mode} {e[mode]['verdict']}" for mode in MODES if mode in e]
        if all(s.endswith(" pass") for s in shown):
            continue
        line = f"{e['entry']}: {', '.join(shown)}"
        for kind in ("crash", "wrong", "error", "missing", *UNCOUNTED):
            if m := next((m for m in e["messages"] if m["kind"] == kind), None):
                line += f" [{kind} {m['mode']} {m['variant']} {m['dtype']}] {m['text']}"
                break
        print(line)


def reference_failures(entries):
    """Samples outside in-place variants that torch itself refused."""
    return sum(
        counts.get("reference", 0)
        for e in entries
        for mode in MODES
        if mode in e
        for variant, counts in e[mode]["variants"].items()
        if variant != "inplace"
    )


def report(db, opts, results, version, seconds):
    """Prints what a run gave and writes it to opts.json, if that is set."""
    entries = [
        entry_report(key, info, results)
        for key, info in db.entries.items()
        if db.matches(opts, key)
    ]
    names = {mode: verdicts_by_name(entries, mode) for mode in MODES}
    print(
        f"\n{db.title}: {len(db.entries) + len(db.excluded)} entries, {len(db.excluded)} excluded, "
        f"{len(entries)} selected ({len({e['name'] for e in entries})} names); "
        f"{opts.impl} {version} against torch {torch.__version__}; {seconds:.0f} s"
    )
    reasons = Counter(reason for _, reason in db.excluded)
    print("excluded:", "; ".join(f"{n} {r}" for r, n in reasons.items()) or "none")
    for mode in MODES:
        if names[mode]:
            print_mode(entries, names[mode], db.spaces, mode)
    if broken := reference_failures(entries):
        print(f"\nwarning: torch itself refused {broken} samples outside in-place variants")
    if opts.verbose:
        print()
        print_failures(entries)
    if opts.json:
        options = ("impl", "ops", "dtype", "grad", "max_samples", "device", "timeout")
        content = {
            "implementation": f"{opts.impl} {version}".strip(),
            "torch": torch.__version__,
            "options": {k: getattr(opts, k) for k in options},
            "seconds": round(seconds, 1),
            "names": names,
            "excluded": db.excluded,
            "entries": entries,
        }
        Path(opts.json).write_text(json.dumps(content, indent=1, default=str) + "\n")
