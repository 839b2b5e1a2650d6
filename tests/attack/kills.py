"""`kill -9` at random and at chosen moments of a study, which is then run to its end.

What is there at the end must be what an undisturbed study leaves, bit by bit, and nothing else. Chosen
moments are those around every call that changes the folder: before and after it, and for a write in the
middle, with half of the bytes there. One process loads the model; each study is a fork of it that has
one thread, so that 200 of them take minutes.
"""
import json, os, random, shutil, signal, stat, sys, tempfile, time
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))   # for the tests' tiny models
PAIRS = """category,clean_prompt,corrupt_prompt,clean_target,corrupt_target
c,The capital of France is,The capital of Japan is, Paris, Tokyo
c,The capital of Spain is,The capital of Italy is, Madrid, Rome
o,The opposite of hot is,The opposite of big is, cold, small
o,The opposite of big is,The opposite of long is, small, short
"""
DIFFER = {"seconds", "peak_memory_bytes", "parts", "sha256"}   # of run.json: what no two runs have in common, and the checksum of that; the study reads it back and checks it
MOST = 300   # kills: then the time is better spent elsewhere
LIMIT = 120   # seconds that a study of four pairs may take on a machine that is busy


def prepare(folder):
    "A function that studies a tiny random model into a folder; everything slow is done here, once."
    import pyarrow, torch
    torch.set_num_threads(1); pyarrow.set_cpu_count(1)   # a fork has only the thread that made it
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from conftest import tiny_model, tiny_tokenizer
    from bizzaroworld.battery import read_battery
    from bizzaroworld.models import load
    from bizzaroworld.study import study
    tiny_model("gemma3").save_pretrained(folder/"model"); tiny_tokenizer(True).save_pretrained(folder/"model")
    (folder/"pairs.csv").write_text(PAIRS)
    model, table = load(str(folder/"model"), device="cpu"), read_battery(folder/"pairs.csv")
    return lambda out: study(model, table, out=out, source=str(folder/"pairs.csv"))


def kill_me(): os.kill(os.getpid(), signal.SIGKILL)


def halve(where):
    "What a write leaves that was interrupted: the first half."
    with suppress(OSError):   # a folder that is synced has no half
        about = os.stat(where)
        if stat.S_ISREG(about.st_mode): os.truncate(where, about.st_size // 2)


def watched():
    "The calls that change a folder: owner, name, and the place among their arguments of what is written."
    import pandas as pd
    return [(os, "replace", None), (os, "rename", None), (os, "fsync", 0), (os, "unlink", None), (os, "rmdir", None), (os, "mkdir", None), (os, "chmod", None),
            (pd.DataFrame, "to_parquet", 1), (pd.DataFrame, "to_csv", 1), (Path, "write_text", 0), (Path, "write_bytes", 0)]


def watch(out, moment):
    "Have `moment(k, name, when, written)` called around the k-th call that changes `out`."
    count = [0]
    def around(call, name, at):
        def inner(*words, **options):
            if not any(isinstance(w, int) and name == "fsync" or isinstance(w, (str, Path)) and str(w).startswith(str(out)) for w in words): return call(*words, **options)
            k = count[0] = count[0] + 1
            moment(k, name, "before", None)
            done = call(*words, **options)
            if at is not None: moment(k, name, "in", words[at])
            moment(k, name, "after", None)
            return done
        return inner
    for owner, name, at in watched(): setattr(owner, name, around(getattr(owner, name), name, at))


def child(study, out, moment=None):
    "A study in a process of its own; its id."
    pid = os.fork()
    if pid: return pid
    try:
        signal.alarm(LIMIT)   # one that hangs is ended, and told
        for number in (0, 1, 2): os.dup2(os.open(os.devnull, os.O_RDWR), number)
        if moment: watch(out, moment)
        study(out); os._exit(0)
    except BaseException as e: (out.parent/"error").write_text(f"{type(e).__name__}: {e}"); os._exit(1)


def why(out):
    "What the last study that failed said, in a line; a hung one says nothing."
    said = out.parent/"error"
    return " ".join(said.read_text().split())[:300] if said.is_file() else f"no word in {LIMIT} s"


def ended(pid):
    "How a child ended: its exit status, or the signal as a negative number."
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def moments(study, out):
    "Every moment around a call that changes the folder, found in an undisturbed study; it is the one that the others are compared with."
    log = out.with_suffix(".log")
    def note(*moment):
        with open(log, "a") as f: f.write(json.dumps(moment[:3]) + "\n")
    if (status := ended(child(study, out, note))) != 0: raise RuntimeError(f"an undisturbed study failed: {why(out)}")
    return list(dict.fromkeys(tuple(json.loads(line)) for line in log.read_text().splitlines()))


def kill_at(study, out, wanted):
    "Whether a study was killed at this moment, `(k, name or None, when)`; False where it came to its end without it."
    def moment(k, name, when, written):
        if (k, when) != (wanted[0], wanted[2]) or wanted[1] not in (name, None): return
        if when == "in": halve(written)
        kill_me()
    return ended(child(study, out, moment)) == -signal.SIGKILL


def kill_after(study, out, seconds):
    "Whether a study was killed after so many seconds; False where it was faster."
    pid = child(study, out)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)   # one that has ended is still there to be waited for
    return ended(pid) == -signal.SIGKILL


def differences(out, whole):
    "What of a folder is not as in another one; empty where all of it is."
    names = [{str(p.relative_to(d)) for p in d.rglob("*")} for d in (out, whole)]
    if names[0] != names[1]: return f"lost {sorted(names[1] - names[0])}, left over {sorted(names[0] - names[1])}"
    for name in sorted(names[0]):
        if not (out/name).is_file(): continue
        pair = [(d/name).read_bytes() for d in (out, whole)]
        if name == "run.json": pair = [{k: v for k, v in json.loads(text).items() if k not in DIFFER} for text in pair]
        if pair[0] != pair[1]: return f"{name} differs"
    return ""


def attack(
    seconds, # to work, about
    seed=0, # of the moments
    folder=None, # where to work; a temporary one if not given
)->dict: # tried, wrong, and how many kills were random, chosen, and how many moments there are
    "Kill studies, finish them, and compare."
    with tempfile.TemporaryDirectory(dir=folder) as place:
        draw, folder = random.Random(seed), Path(place).resolve()
        study, whole = prepare(folder), folder/"whole"
        every = moments(study, whole)
        began = time.monotonic(); child_ended = ended(child(study, folder/"again")); once = time.monotonic() - began
        until = time.monotonic() + seconds   # for kills: a busy machine may take as long for the undisturbed ones
        wrong = [f"two undisturbed studies: {d}" for d in [differences(folder/"again", whole)] if d or child_ended]
        found = dict(tried=0, random=0, chosen=0, moments=len(every), wrong=wrong)
        first, calls = draw.sample(every, len(every)), max(k for k, _, _ in every)
        chains = ("F", "F", "FR", "FC", "R", "RC", "RRR")   # the first, chosen from all moments; a random one; one chosen while it goes on
        while time.monotonic() < until and found["tried"] < MOST and not wrong[10:]:
            out, said = folder/"out", []
            for kind in draw.choice(chains):
                if kind == "F" and not first: continue
                said.append(first.pop() if kind == "F" else (draw.randint(1, calls), None, "before") if kind == "C" else round(draw.uniform(0, once), 3))
                hit = kill_after(study, out, said[-1]) if kind == "R" else kill_at(study, out, said[-1])
                found["tried"] += hit; found["random" if kind == "R" else "chosen"] += hit
            status = ended(child(study, out))
            fault = f"the study then failed ({why(out)})" if status else differences(out, whole)
            if fault: wrong.append(f"killed at {said}: {fault}")
            shutil.rmtree(out, ignore_errors=True)
        return found
