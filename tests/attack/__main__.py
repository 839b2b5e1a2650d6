"""Every section of the attack, one process each, and `N tried, N wrong` last.

    python -m tests.attack [SECTION ...] [--seconds N] [--seed N]

A section is a module beside this one with `attack(seconds, seed=0, folder=None)`, which returns
`dict(tried=..., wrong=[one line each], ...)` and counts of its own. What a section leaves of its time
goes to those that follow.
"""
import argparse, importlib, json, os, subprocess, sys, tempfile, time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARES = dict(hub=5, batteries=3, files=2, kills=7, pages=5)   # of the time; the first three end when they have tried all
LEAST = dict(kills=200, batteries=3100)   # fewer are said to be too few; of the hub, fewer than its answers
GRACE = 100   # seconds beyond its time after which a section is ended; beyond the whole time, for all of them together


def one(name, seconds, seed):
    "Run a section here and print what it found as the last line."
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))   # for the tests' tiny models
    with tempfile.TemporaryDirectory() as folder:
        print("\n" + json.dumps(importlib.import_module(f"tests.attack.{name}").attack(seconds, seed=seed, folder=Path(folder))))


def run(name, seconds, seed, limit):
    "What a section found in a process of its own; one that is missing, falls or hangs is wrong itself."
    if not (Path(__file__).parent/f"{name}.py").is_file(): return dict(tried=0, wrong=[f"there is no {name}.py: this section is missing"])
    command = [sys.executable, "-m", "tests.attack", name, "--here", "--seconds", str(seconds), "--seed", str(seed)]
    environment = dict(os.environ, HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_WAIT_POLICY="PASSIVE", KMP_BLOCKTIME="0")
    try: done = subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=limit)
    except subprocess.TimeoutExpired: return dict(tried=0, wrong=[f"it was given {seconds:.0f} s and had not ended after {limit:.0f} s"])
    try: return json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError): return dict(tried=0, wrong=[f"it ended with {done.returncode}: {' '.join(done.stderr.split())[-600:]}"])


def told(name, found, seconds):
    "A section in one line, and a line for each thing that was wrong."
    counts = ", ".join(f"{v:,} {k}" if isinstance(v, int) else f"{k} {v}" for k, v in found.items() if k not in ("tried", "wrong"))
    least = LEAST.get(name, found.get("answers", 0))
    few = f"; at least {least:,} wanted: give it more --seconds" if found["tried"] < least else ""
    print(f"{name}: {found['tried']:,} tried, {len(found['wrong'])} wrong{f' ({counts})' if counts else ''}{few} ({seconds:.0f} s)", flush=True)
    for line in found["wrong"][:20]: print(f"  wrong: {line}", flush=True)


def main(argv=None):
    p = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__.splitlines()[0])
    p.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SHARES)}; all if not given")
    p.add_argument("--seconds", type=float, default=780, help="for all together (default: 780)")
    p.add_argument("--seed", type=int, default=0, help="of everything that draws (default: 0)")
    p.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = p.parse_args(argv)
    if args.here: return one(args.sections[0], args.seconds, args.seed)
    names, until, tried, wrong = args.sections or list(SHARES), time.monotonic() + args.seconds, 0, 0
    for i, name in enumerate(names):
        share = SHARES.get(name, 1) / sum(SHARES.get(n, 1) for n in names[i:])
        began = time.monotonic()
        seconds = max(5, (until - began) * share)
        found = run(name, seconds, args.seed, max(10, min(seconds, until - began) + GRACE))
        told(name, found, time.monotonic() - began)
        tried += found["tried"]; wrong += len(found["wrong"])
    print(f"{tried} tried, {wrong} wrong")
    return bool(wrong)


if __name__ == "__main__": sys.exit(main())
