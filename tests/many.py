"""Many studies in one queue, one model of them broken: `python tests/many.py [--models 20] [--workers 2] [--keep FOLDER]`.

Tiny models of as many architectures, two batteries, a plan file; one model's weights are cut short. What can be studied is
finished, what cannot says why, and the report is made of what is finished.
"""
import argparse, json, os, subprocess, sys, tempfile, time
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from lost_workers import TOOL
from test_workers import battery
from zoo import FAMILIES, save


def tool(*words, cwd):
    "A command, its seconds and what it said."
    began = time.perf_counter()
    done = subprocess.run([TOOL, *map(str, words)], capture_output=True, text=True, cwd=cwd, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    return done, round(time.perf_counter() - began, 1)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--models", type=int, default=20); p.add_argument("--workers", type=int, default=2)
    p.add_argument("--keep", type=Path, help="a new folder for all of it")
    a = p.parse_args()
    if a.keep: a.keep.mkdir()
    with nullcontext(a.keep) if a.keep else tempfile.TemporaryDirectory() as folder:
        folder = Path(folder).resolve()
        models = [save(family, folder/"models"/f"{i:02}-{family}") for i, family in enumerate(list(FAMILIES)[:a.models])]
        broken = models[a.models // 2]
        weights = next(broken.glob("*.safetensors")); weights.write_bytes(weights.read_bytes()[:-100])
        batteries = [battery(folder/"first.csv", 6), battery(folder/"second.csv", 4)]
        plan = folder/"plan.yaml"; plan.write_text(json.dumps(dict(model=list(map(str, models)), battery=list(map(str, batteries)), quick=True)))
        studied, seconds = tool("study", "--plan", plan, "--workers", a.workers, "--json", cwd=folder)
        found = json.loads(studied.stdout)
        status, _ = tool("status", "--results", "results", "--json", cwd=folder)
        states = [s["state"] for s in json.loads(status.stdout)["studies"]]
        report, drawn = tool("report", "--results", "results/first", "--site", "site", cwd=folder)   # a battery's studies are a report
        said = dict(models=len(models), broken=broken.name, finished=len(found["studies"]), failed=[f"{f['study']}: {f['why']}" for f in found["failed"]],
            exit=studied.returncode, states={s: states.count(s) for s in sorted(set(states))}, seconds=seconds, report_exit=report.returncode, report_seconds=drawn,
            pages=len(list((folder/"site").glob("*.html"))), said=[*studied.stderr.strip().splitlines()[-3:], *report.stderr.strip().splitlines()[-3:]])
        print(json.dumps(said, indent=1, ensure_ascii=False))
        good = len(found["studies"]) == 2 * (len(models) - 1) and len(found["failed"]) == 2 and report.returncode == 0
        return int(not good)


if __name__ == "__main__": sys.exit(main())
