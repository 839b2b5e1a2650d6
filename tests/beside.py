"""The engine of an older commit beside this one, on the same patches in one run: `python tests/beside.py COMMIT [--model NAME] [--pairs N]`.

Workers of the two take turns, three each; the best of each counts, in seconds and in seconds of the processor,
which say the same on a quiet machine. Not a test: a machine that is busy would fail it.
"""
import argparse, json, os, subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORKER = r'''
import json, random, sys, time
root, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3]); sys.path.insert(0, root)
import pandas as pd, torch
from bizzaroworld import engine, models
from bizzaroworld.battery import Pair
from bizzaroworld.patching import Patch
assert engine.__file__.startswith(root)
net = engine.Network(models.load(name, device="cpu", self_test=False))
layers, heads = len(net.layers), net.heads if isinstance(net.heads, int) else len(net.heads)
draw, pairs = random.Random(0), []
token = lambda: draw.randrange(3, 40000)
shapes = pd.read_csv(root + "/data/lengths.csv")[["tokens", "start", "stop"]].values.tolist()
for i in range(count):
    n, start, stop = shapes[i % len(shapes)]
    clean = [token() for _ in range(n)]
    corrupt = [*clean[:start], *[token() for _ in range(start, stop)], *clean[stop:]]
    pairs.append(Pair(i, "random", "", "", "", "", tuple(clean), tuple(corrupt), token(), token(), (start, stop)))
places = [(site, at) for at in ("final", "entity") for site in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post", "z")]
patches = [Patch(s, l, at, h) for s, at in places for l in range(layers) for h in (range(heads) if s == "z" else [None])]
engine.patch_all(net, pairs[:2], patches[:20])   # the first use of anything is slow
began, worked = time.perf_counter(), time.process_time()
ld = engine.patch_all(net, pairs, patches).ld
print(json.dumps(dict(seconds=time.perf_counter() - began, processor=time.process_time() - worked, patches=ld.numel(), sum=float(ld.double().sum()))))
'''


def ask(root, *words):
    env = {**os.environ, "PYTHONPATH": str(root), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", WORKER, str(root), *map(str, words)], env=env, capture_output=True, text=True)
    if done.returncode: sys.exit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commit"); parser.add_argument("--model", default="gemma-3-270m"); parser.add_argument("--pairs", type=int, default=6)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as d:
        old = Path(d)/"old"
        subprocess.run(["git", "worktree", "add", "-q", "--detach", str(old), args.commit], cwd=ROOT, check=True)
        try: runs = [(which, ask(root, args.model, args.pairs)) for _ in range(3) for which, root in (("old", old), ("new", ROOT))]
        finally: subprocess.run(["git", "worktree", "remove", "--force", str(old)], cwd=ROOT, check=True)
    best = {w: {k: min(r[k] for which, r in runs if which == w) for k in ("seconds", "processor")} for w in ("old", "new")}
    ratio = {k: round(best["new"][k] / best["old"][k], 3) for k in ("seconds", "processor")}
    print(json.dumps(dict(model=args.model, commit=args.commit, patches=runs[0][1]["patches"], best=best, new_over_old=ratio)))


if __name__ == "__main__": main()
