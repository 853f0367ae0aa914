"""Runs PyTorch's test databases against Lampion; fails if a name that once passed no longer does.

The names that have to pass stand in floor.json. `--raise-floor` adds those that pass now; only
`--lower` takes names out, and keeps the reason it is given in the file.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
FLOOR = HERE / "floor.json"
DATABASES = {"operators": ["--grad"], "modules": [], "optimizers": []}  # script: its own options


def run_database(database, options):
    """The JSON report of one database's script, which prints its tables itself."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "report.json"
        command = [sys.executable, HERE / f"{database}.py", *DATABASES[database]]
        command += ["--impl", options.impl, "--jobs", str(options.jobs), "--json", result]
        command += ["--max-samples", str(options.max_samples)] + ["--verbose"] * options.verbose
        subprocess.run(command, check=True)
        return json.loads(result.read_text())


def passing(report):
    """mode -> the sorted names that pass in it."""
    return {
        mode: sorted(name for name, verdict in names.items() if verdict == "pass")
        for mode, names in report["names"].items()
        if names
    }


def shortfalls(floor, reports):
    """(database, mode, name, verdict) of every name in the floor that does not pass now."""
    return [
        (database, mode, name, report["names"].get(mode, {}).get(name, "not run"))
        for database, report in reports.items()
        for mode, names in floor["names"].get(database, {}).items()
        for name in names
        if report["names"].get(mode, {}).get(name) != "pass"
    ]


def raised(floor, reports, reason):
    """The floor with what passes now; with a reason, without what does not."""
    fallen = shortfalls(floor, reports)
    names = {database: dict(modes) for database, modes in floor["names"].items()}
    for database, report in reports.items():
        modes = names.setdefault(database, {})
        for mode, now in passing(report).items():
            modes[mode] = sorted({*modes.get(mode, ()), *now})
    if reason:
        for database, mode, name, _ in fallen:
            names[database][mode].remove(name)
    lowered = floor["lowered"]
    if reason and fallen:
        dropped = [f"{database} {mode} {name}" for database, mode, name, _ in fallen]
        lowered = [*lowered, {"reason": reason, "names": dropped}]
    return {"names": names, "lowered": lowered}


def print_totals(floor, reports):
    """A line per database and mode: names that pass, of how many, and the floor."""
    print(f"\n{'names passing':22}{'pass':>6}{'of':>6}{'share':>9}{'floor':>7}")
    for database, report in reports.items():
        for mode, now in passing(report).items():
            of = len(report["names"][mode])
            least = len(floor["names"].get(database, {}).get(mode, ()))
            print(f"{database + ' ' + mode:22}{len(now):6}{of:6}{len(now) / of:9.1%}{least:7}")


def command_line():
    """The options, checked for combinations that would write a wrong floor."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("databases", nargs="*", metavar="DATABASE", help=", ".join(DATABASES))
    p.add_argument("--impl", default="lampion", help="module to test (default: %(default)s)")
    p.add_argument("--max-samples", type=int, default=0, metavar="N", help="quick: N per entry")
    p.add_argument("--jobs", type=int, default=2, metavar="N", help="worker processes")
    p.add_argument("--raise-floor", action="store_true", help="add what passes now to the floor")
    p.add_argument("--lower", metavar="REASON", help="take out of the floor what no longer passes")
    p.add_argument("-v", "--verbose", action="store_true", help="list entries that do not pass")
    options = p.parse_args()
    options.databases = options.databases or list(DATABASES)
    if unknown := set(options.databases) - set(DATABASES):
        p.error(f"expects databases of {', '.join(DATABASES)}, got {', '.join(sorted(unknown))}")
    if (options.raise_floor or options.lower) and (
        options.max_samples or options.impl != "lampion"
    ):
        p.error("the floor is written from all samples of lampion; leave out --max-samples, --impl")
    return options


def main():
    """0 if every name in the floor passes, else 1."""
    options = command_line()
    floor = json.loads(FLOOR.read_text())
    reports = {database: run_database(database, options) for database in options.databases}
    print_totals(floor, reports)
    fallen = shortfalls(floor, reports)
    if options.raise_floor or options.lower:
        FLOOR.write_text(json.dumps(raised(floor, reports, options.lower), indent=1) + "\n")
        print(f"wrote {FLOOR.name}")
    if fallen and not options.lower:
        print(f"\n{len(fallen)} names of the floor no longer pass:")
        for database, mode, name, verdict in fallen:
            print(f"  {database} {mode} {name}: {verdict}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
