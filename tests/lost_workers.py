"""Kill workers of a study at random and compare: the tables are those of an undisturbed study, and nothing is measured twice but what was lost.

`python tests/lost_workers.py dask|local|processes --model gemma-3-270m --kills 20 --seed 0` prints the counts.
"""
import argparse, filecmp, json, os, random, signal, subprocess, sys, tempfile, time
from contextlib import contextmanager
from pathlib import Path

TOOL = Path(sys.executable).parent/"bizzaroworld"


def children(pid):
    "All processes below one."
    import psutil
    try: return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess: return []


def port():
    import socket
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); return s.getsockname()[1]


@contextmanager
def cluster(folder, workers=2, env=None):
    "A real Dask cluster on this machine, of processes: the scheduler, its address, the nannies."
    at, tools = f"127.0.0.1:{port()}", Path(sys.executable).parent
    def begin(name, *words):
        with open(folder/f"{name}.log", "w") as log:
            return subprocess.Popen([tools/"dask", *words], stdout=log, stderr=log, env={**os.environ, "HF_HUB_OFFLINE": "1", **(env or {})}, cwd=folder)
    scheduler = begin("scheduler", "scheduler", "--host", "127.0.0.1", "--port", at.split(":")[1], "--no-dashboard")
    nannies = [begin(f"worker-{i}", "worker", f"tcp://{at}", "--nthreads", "1", "--no-dashboard") for i in range(workers)]
    try: yield scheduler, f"dask://{at}", nannies
    finally:
        for p in [*nannies, scheduler]:
            for c in children(p.pid): c.kill()
            p.kill(); p.wait()


def workers_of(kind, process, nannies):
    "The processes that measure parts."
    below = [c for root in (nannies if kind == "dask" else [process]) for c in children(root.pid)]
    def measures(c):
        try: words = " ".join(c.cmdline())
        except Exception: return False
        return {"dask": "spawn_main", "processes": "spawn_main", "local": "submitit.core._submit"}[kind] in words
    return [c for c in below if measures(c)]


def study(kind, words, out, nannies=(), address=""):
    "The command, begun."
    where = dict(dask=["--cluster", address], local=["--cluster", "local", "--workers", "2"], processes=["--workers", "2"])[kind]
    return subprocess.Popen([TOOL, "study", *words, "--out", str(out), *where], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})


def disturb(kind, words, out, kills, draw, nannies=(), address="", every=(1., 8.)):
    "Kill workers until there were so many kills or the study is finished; how often the command was typed, what it said, kills."
    typed, done, said = 0, 0, []
    while not (out/"run.json").is_file() and typed < 3 * kills + 3:
        typed += 1
        process = study(kind, words, out, nannies, address)
        while process.poll() is None:
            until = time.time() + draw.uniform(*every)
            while time.time() < until and process.poll() is None: time.sleep(.05)
            victims = workers_of(kind, process, nannies)
            # a worker that has begun a part, so that something is lost
            if process.poll() is None and victims and done < kills and list(out.glob(".parts/*.log")):
                try: draw.choice(victims).kill(); done += 1
                except Exception: pass
        said.append(process.communicate()[1].strip())
    return typed, said, done


def counted(out):
    "From what the workers said: parts, how often one was begun and finished, and those finished more than once."
    rows = [json.loads(line) for line in (out/"workers.log").read_text().splitlines()]
    done, begun = ([r["part"] for r in rows if r["event"] == e] for e in ("done", "began"))
    return dict(parts=len(set(done)), begun=len(begun), finished=len(done), twice=sorted({p for p in done if done.count(p) > 1}))


def tables(folder): return sorted(p.name for p in Path(folder).iterdir() if p.suffix in (".csv", ".parquet"))


def differing(out, whole):
    "Names of tables that are not the same, byte by byte."
    assert tables(out) == tables(whole), (tables(out), tables(whole))
    return [n for n in tables(out) if not filecmp.cmp(out/n, whole/n, shallow=False)]


def main():
    p = argparse.ArgumentParser(); p.add_argument("kind", choices=("dask", "local", "processes"))
    p.add_argument("--model", default="gemma-3-270m"); p.add_argument("--kills", type=int, default=20); p.add_argument("--seed", type=int, default=0)
    p.add_argument("--whole", help="folder of an undisturbed study of the same settings; made if not given")
    a, more = p.parse_known_args(); draw = random.Random(a.seed); words = ["--model", a.model, *more]   # what else is said goes to `bizzaroworld study`
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        whole = Path(a.whole) if a.whole else folder/"whole"
        if not a.whole: subprocess.run([TOOL, "study", *words, "--out", str(whole)], check=True)
        began = time.time()
        if a.kind == "dask":
            with cluster(folder) as (_, address, nannies): typed, said, kills = disturb("dask", words, folder/"out", a.kills, draw, nannies, address)
        else: typed, said, kills = disturb(a.kind, words, folder/"out", a.kills, draw)
        found = dict(kind=a.kind, kills=kills, command_typed=typed, seconds=round(time.time() - began), **counted(folder/"out"), differing=differing(folder/"out", whole))
    print(json.dumps(found)); return int(bool(found["differing"] or found["twice"]))


if __name__ == "__main__": sys.exit(main())
