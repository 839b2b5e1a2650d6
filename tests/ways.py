"""One study in four ways, one after the other: `python tests/ways.py [--model NAME] [--out FILE] [words of bizzaroworld study]`.

In one process with all cores; with two worker processes; on a Dask cluster of two processes; in jobs of submitit on this machine. For each its
seconds, from the command's first moment to its last, and the tables that differ from those of the first way by a byte: there
should be none. With `--again` the first way once more, which says how far the machine itself went astray. With `--busy` only the first way, alone and
beside a busy program on each core: fair is twice as long.
"""
import argparse, json, os, shutil, subprocess, sys, tempfile, time
from contextlib import contextmanager, nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from costs import wait_for_quiet
from lost_workers import TOOL, cluster, differing

ROOT = Path(__file__).resolve().parent.parent
BUSY = "one process, beside a busy program a core"
WAYS = {"one process": [], "--workers 2": ["--workers", "2"], "Dask, two processes": ["--cluster"],
    "submitit, jobs on this machine": ["--cluster", "local", "--workers", "2"]}


@contextmanager
def neighbours(busy):
    "As many programs that never rest as there are cores."
    some = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() * busy)]
    try: yield
    finally:
        for p in some: p.kill(); p.wait()


def one(words, out, way, folder):
    "The seconds of a study."
    where = WAYS.get(way, [])
    with cluster(folder) if where == ["--cluster"] else nullcontext((None, "", ())) as (_, address, _nannies), neighbours(way == BUSY):
        if address: where = [*where, address]; time.sleep(5)   # the cluster stands before the study is asked for
        began = time.perf_counter()
        subprocess.run([TOOL, "study", *words, "--out", str(out), *where], check=True, stdout=subprocess.DEVNULL, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        return time.perf_counter() - began


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--model", default="gemma-3-270m"); p.add_argument("--out", type=Path, default=ROOT/"data/bench/ways.json")
    p.add_argument("--again", action="store_true", help="the first way once more at the end")
    p.add_argument("--busy", action="store_true", help="one process, alone and beside a busy program a core")
    a, more = p.parse_known_args()
    ways, words = ["one process", BUSY] if a.busy else [*WAYS, *["one process again"] * a.again], ["--model", a.model, *more]
    command = " ".join(["python tests/ways.py", *["--again"] * a.again, *["--busy"] * a.busy, *more])
    from bizzaroworld.machine import stamp
    from bizzaroworld.measuring import Load, hands_at
    hands_at(Load(a.model))   # self-tests that passed are remembered, so that the first way does not pay for all
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for i, way in enumerate(ways):
            out = folder/f"way-{i}"
            wait_for_quiet(60)
            seconds = one(words, out, way, folder)
            run = json.loads((out/"run.json").read_text())
            rows.append(dict(way=way, seconds=round(seconds, 1), overhead=round(seconds / rows[0]["seconds"] - 1, 4) if rows else 0., parts=len(run["parts"]),
                workers=len({r["by"] for r in run["parts"] if r["by"]}), rows=run["counts"]["rows"], differing=differing(out, folder/"way-0")))
            print(json.dumps(rows[-1]), flush=True)
            a.out.write_text(json.dumps({**stamp("cpu"), "kind": "ways", "model": a.model, "command": command, "ways": rows}, indent=1) + "\n")
            if i: shutil.rmtree(out)
    return int(any(r["differing"] for r in rows))


if __name__ == "__main__": sys.exit(main())
