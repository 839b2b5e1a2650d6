"""What studies cost on paper and by the clock: `python tests/costs.py [--model NAME ...] [--few] [--out FILE]`.

Studies of several sizes are run on one and on two workers, each in a process of its own. Before the first and behind each, the processor is calibrated
on the model's sizes (some seconds): a prediction is the mean of what it is by the rates before and behind a study, and `drift` is their ratio. Where
that is far from 1, the machine itself changed meanwhile, and the study is run again. For each study the table has the measured seconds, those that the formula predicted, those that playing its own
measured parts again gives, and what share of the processor others took meanwhile: where that is not small, the seconds of the clock are no
measurement of the study. `processor` are the seconds that cores worked for it, whoever else was there, and `said` those of the formula.
"""
import argparse, json, os, subprocess, sys, tempfile, time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODELS = ("gemma-3-270m", "smollm2-135m")
CASES = [(m, p, q, w) for m in MODELS for p, q in ((4, True), (30, True), (12, False), (60, True)) for w in (1, 2)]   # a model's behind each other: one calibration serves two
WHOLE = [(MODELS[0], 60, False, w) for w in (1, 2)]


def processor():
    "Seconds that all cores have worked since the machine began, but for those who stand back (nice)."
    words = [int(w) for w in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return (sum(words) - words[1] - words[3] - words[4]) / os.sysconf("SC_CLK_TCK")


def own():
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system


def wait_for_quiet(patience, most=.06, look=4):
    "Until others take no more than a share of the processor, or for so many seconds at most."
    began = time.monotonic()
    while time.monotonic() - began < patience:
        before = processor(); time.sleep(look)
        if (processor() - before) / look / os.cpu_count() <= most: return


def run_one(model, pairs, quick, workers, folder):
    "A study; its run, and when each task began and was done."
    from bizzaroworld.executors import executor_of
    from bizzaroworld.queue import Wanted, run_queue
    from bizzaroworld.study import asked_of
    began, events = time.perf_counter(), []
    def tell(event, work, tasks): events.extend((event, t.name, time.perf_counter() - began) for t in tasks)
    wanted = Wanted("study", model, (), asked_of(quick=quick, count=pairs), Path(folder)/"out")
    others, mine = processor() - own(), own()
    work, = run_queue([wanted], executor_of(workers=workers, folder=Path(folder)), tell=tell)
    if work.error: raise work.error
    spent, seconds, mine = processor() - own() - others, time.perf_counter() - began, own() - mine
    at = {(e, n): t for e, n, t in events}
    took = {n: at["done", n] - at["began", n] for n in ("begin", "proof")}
    return dict(run=work.value.run, seconds=seconds, processor=mine, others=spent / seconds / os.cpu_count(), **took)


def real_pairs(folder):
    "The pairs of a study, and the strongest of each category, as the formula wants them."
    import pandas as pd
    from bizzaroworld.costs import typical_pairs
    from dataclasses import replace
    table = pd.read_csv(Path(folder)/"triage.csv")
    best = set(table.drop_duplicates("category").battery_idx)
    table = table.sort_values("battery_idx")
    pairs = typical_pairs(len(table), table[["n_tokens", "entity_start", "entity_stop"]].values.tolist())
    pairs = tuple(replace(p, category=c) for p, c in zip(pairs, table.category))
    return pairs, tuple(p for p, i in zip(pairs, table.battery_idx) if i in best)


def rates(sizes):
    "The processor's constants now, of all cores and of one."
    import torch
    from bizzaroworld.costs import calibrated
    every, all_of_them = torch.get_num_threads(), calibrated(sizes)
    torch.set_num_threads(1)
    try: return all_of_them, calibrated(sizes)
    finally: torch.set_num_threads(every)


def said_by(rate, costs, weights, workers):
    "Seconds by the clock and seconds of cores, as one calibration has it."
    from bizzaroworld.costs import loading, one_of
    from bizzaroworld.planning import predicted, study_seconds
    machine, core = rate
    said = study_seconds(costs, one_of(machine, workers) if workers > 1 else machine, workers, size=weights, beginner=machine)["seconds"]
    if workers == 1: said -= machine.start   # this process has its libraries already
    loads = workers * loading(core, weights) - core.start * (workers == 1)
    return said, loads + sum(sum(step.values()) for step in predicted(costs, core))


def compared(model, pairs, quick, workers, before, sizes):
    "One row of the table, what was measured of the parts, and the rates behind the study."
    from bizzaroworld.costs import loading, study_costs
    from bizzaroworld.planning import replayed, simulate
    with tempfile.TemporaryDirectory() as folder:
        words = json.dumps([model, pairs, quick, workers, folder])
        done = subprocess.run([sys.executable, __file__, "--one", words], capture_output=True, text=True)
        if done.returncode: raise RuntimeError(done.stderr[-2000:])
        found = json.loads(done.stdout.splitlines()[-1])
        some, alone = real_pairs(Path(folder)/"out")
    behind = rates(sizes)
    costs, weights = study_costs(sizes, some, alone=alone, quick=quick), 4 * sizes.weights
    each = [said_by(rate, costs, weights, workers) for rate in (before, behind)]
    said, on_cores = (sum(e[i] for e in each) / 2 for i in (0, 1))
    steps = replayed(found["run"], begin=found["begin"], proof=found["proof"])
    again = simulate([steps], workers, load=loading(before[0], weights), first=0.)["seconds"]
    row = dict(model=model, pairs=pairs, quick=quick, workers=workers, seconds=found["seconds"], predicted=said,
        ratio=said / found["seconds"], processor=found["processor"], said=on_cores,
        processor_ratio=on_cores / found["processor"], replayed=again, replayed_ratio=again / found["seconds"], others=found["others"],
        drift=each[1][0] / each[0][0])
    return row, dict(**{k: row[k] for k in ("model", "pairs", "quick", "workers")}, steps=steps), behind


def unlike(row):
    "How far a machine was from one that is ours alone and stays as it is; more than 1: others took 5 %, or its rate changed by 10 %."
    return max(row["others"] / .05, (max(row["drift"], 1 / row["drift"]) - 1) / .1)


def main():
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("--model", nargs="+", default=MODELS, help="of these alone")
    words.add_argument("--few", action="store_true", help="the smallest studies alone")
    words.add_argument("--whole", action="store_true", help="60 pairs with everything too")
    words.add_argument("--out", default=ROOT/"data/bench/costs.json", type=Path)
    words.add_argument("--tries", default=3, type=int, help="runs of a study, until one has the machine for itself")
    words.add_argument("--patience", default=300, type=float, help="seconds to wait for that")
    words.add_argument("--one", help=argparse.SUPPRESS)
    args = words.parse_args()
    if args.one: print("\n" + json.dumps(run_one(*json.loads(args.one)))); return
    from dataclasses import asdict
    import pandas as pd
    from bizzaroworld.costs import sizes_of
    from bizzaroworld.machine import stamp, versions
    from bizzaroworld.measuring import Load, hands_at
    from bizzaroworld.planning import model_named
    for m in args.model: hands_at(Load(m))   # self-tests that passed are remembered
    sizes = {m: sizes_of(model_named(m)) for m in args.model}
    wait_for_quiet(args.patience)
    now = {m: rates(s) for m, s in sizes.items()}
    first = dict(now)
    told = lambda some: {m: {k: v for k, v in asdict(c).items() if v != float("inf")} for m, c in some.items()}
    rows, parts = [], []
    cases = [c for c in CASES + WHOLE * args.whole if c[0] in args.model][:2 if args.few else None]
    command = " ".join(["python tests/costs.py", *["--model", *args.model] * (len(args.model) < len(MODELS)), *["--few"] * args.few, *["--whole"] * args.whole])
    for case in cases:
        tries, m = [], case[0]
        while len(tries) < args.tries and min((unlike(t[0]) for t in tries), default=2) > 1:   # others came back
            wait_for_quiet(args.patience)
            *tried, now[m] = compared(*case, now[m], sizes[m])
            tries.append(tried)
        row, measured = min(tries, key=lambda t: unlike(t[0]))
        rows.append(row); parts.append(measured)
        print(pd.DataFrame([row]).round(2).to_string(index=False, header=len(rows) == 1), flush=True)
        found = dict(kind="costs", **stamp("cpu"), versions=versions(), constants=told({m: f[0] for m, f in first.items()}), one_core=told({m: f[1] for m, f in first.items()}), cases=rows, parts=parts)
        args.out.write_text(json.dumps({**found, "command": command}, indent=1, default=float) + "\n")


if __name__ == "__main__": main()
