"""Peak memory and time of a study's first steps as pairs grow, and with one long prompt: `python tests/memory.py [--out FILE]`.

Baselines of all pairs and experiments 1 and 3 in both directions, in the study's own parts, on gemma-3-270m with random
tokens; a process of its own for each case. Not a test: it takes some minutes.
"""
import argparse, json, os, subprocess, sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CASES = {"60 pairs": (60, 0), "1,000 pairs": (1000, 0), "59 pairs and one of 1,500 tokens": (59, 1500)}
WORKER = r'''
import json, random, sys, time
count, long = int(sys.argv[1]), int(sys.argv[2])
import pandas as pd
from bizzaroworld import engine, experiments, knowledge, machine, models, parts
from bizzaroworld.bench import random_pairs
net = engine.Network(models.load("gemma-3-270m", device="cpu", self_test=False))
shapes = pd.read_csv("data/lengths.csv")[["tokens", "start", "stop"]].values.tolist()
pairs = random_pairs([shapes[i % len(shapes)] for i in range(count)] + [(long, long - 9, long - 8)] * bool(long), vocab=200_000)
machine.forget_peak("cpu")
began, worked = time.perf_counter(), time.process_time()
knowledge.baselines(net, pairs)
rows = sum(len(experiments.run_experiments("m", net, list(p.pairs), p.ids)) for p in parts.parts_of(pairs, pairs, quick=True, experiments=("1", "3")))
print(json.dumps(dict(pairs=len(pairs), longest=max(p.n_tokens for p in pairs), patches=rows, seconds=round(time.perf_counter() - began, 1),
    processor_seconds=round(time.process_time() - worked, 1), peak_memory_bytes=machine.peak_memory("cpu"))))
'''


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0]); parser.add_argument("--out"); out = parser.parse_args().out
    env, found = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}, {}
    for name, words in CASES.items():
        done = subprocess.run([sys.executable, "-c", WORKER, *map(str, words)], cwd=ROOT, env=env, capture_output=True, text=True)
        if done.returncode: sys.exit(done.stderr[-2000:])
        found[name] = json.loads(done.stdout.splitlines()[-1]); print(name, found[name], flush=True)
    text = json.dumps(dict(kind="memory", model="gemma-3-270m", machine=f"{os.cpu_count()} CPU cores", date=date.today().isoformat(), command="python tests/memory.py", cases=found), indent=1)
    if out: Path(out).write_text(text + "\n")


if __name__ == "__main__": main()
