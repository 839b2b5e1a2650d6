"""Every file of a finished study flipped, cut, lost and swapped, and every part of one that was stopped.

A damage is noticed when `load_study` refuses the folder and names the file; else all that is read must be
what was read before. Then what the message advises is done, and must lead to the study that was there. A
part that is damaged must be made again: the study that goes on ends with the same tables.
"""
import contextlib, io, json, os, random, shutil, sys, tempfile, time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
PAIRS = [("c", "The capital of France is", "The capital of Japan is", " Paris", " Tokyo"),
    ("c", "The capital of Spain is", "The capital of Italy is", " Madrid", " Rome"),
    ("o", "The opposite of hot is", "The opposite of big is", " cold", " small"),
    ("o", "The opposite of big is", "The opposite of long is", " small", " short")]
DIFFER = {"seconds", "peak_memory_bytes", "parts", "sha256"}   # of run.json: what no two runs have in common
FLIPS = 3   # of a bit, at random places, in each file before anything else
WAYS = ("flipped", "cut in half", "emptied", "a byte short", "a byte long", "lost", "swapped", "blank")


def prepare(folder):
    "A function that studies a tiny random model into a folder, of the first so many pairs."
    import pandas as pd
    from conftest import tiny_model, tiny_tokenizer
    from bizzaroworld.models import load
    from bizzaroworld.study import study
    tiny_model("llama").save_pretrained(folder/"model"); tiny_tokenizer(False).save_pretrained(folder/"model")
    model = load(str(folder/"model"), device="cpu")
    table = pd.DataFrame(PAIRS, columns="category clean_prompt corrupt_prompt clean_target corrupt_target".split())
    def again(out, pairs=4, **words):
        with contextlib.redirect_stderr(io.StringIO()): return study(model, table.head(pairs), out=out, source="four pairs", **words)
    return again


def damaged(way, data, other, draw):
    "The content of a file after a damage; None where it is gone."
    if way == "flipped":
        at, data = draw.randrange(len(data)), bytearray(data)
        data[at] ^= 1 << draw.randrange(8)
        return bytes(data)
    return {"cut in half": data[:len(data) // 2], "emptied": b"", "a byte short": data[:-1], "a byte long": data + b"\n",
        "lost": None, "swapped": other, "blank": bytes(len(data))}[way]


def put(path, data):
    "Give a file a content, or take it away."
    if data is None: path.unlink()
    else: path.write_bytes(data)


def differs(a, b):
    "What of two studies is not the same; empty where all of it is."
    told = {k: (a.run.get(k), b.run.get(k)) for k in (a.run.keys() | b.run.keys()) - DIFFER}
    wrong = [k for k, (x, y) in told.items() if json.dumps(x) != json.dumps(y)]
    if a.tables.keys() != b.tables.keys(): return "tables"
    for name in ("triage", "patches", "battery", "notes", *a.tables):
        x, y = (s.tables[name] if name in s.tables else getattr(s, name) for s in (a, b))
        if not x.equals(y): wrong.append(name)
    return ", ".join(wrong)


def message(folder):
    "What `load_study` says of a folder, and the study where it says nothing."
    from bizzaroworld.facts import InputError
    from bizzaroworld.results import load_study
    try: return "", load_study(folder)
    except InputError as e: return str(e), None


def noticed(out, name, data, whole):
    "What is wrong with how a damaged file is taken; empty where it is noticed or without any effect."
    put(out/name, data)
    try: said, read = message(out)
    except Exception as e: return f"{type(e).__name__}: {e}"
    if not said: return f"read as if nothing were: {d}" if (d := differs(read, whole)) else ""
    return "" if name in said and "\n" not in said and len(said) < 500 else f"said: {said!r}"


def advised(out, study, whole):
    "What is wrong after doing what the message says; empty where the study is there again."
    said, _ = message(out)
    if not said: return "nothing to do"
    if "delete the folder" in said: shutil.rmtree(out)
    elif "study again" not in said and "run bizzaroworld study" not in said: return f"no advice: {said!r}"
    try: study(out)
    except Exception as e: return f"{said!r} was done, and then: {type(e).__name__}: {e}"
    said, read = message(out)
    if not said and not list(out.glob(".*")): return differs(read, whole)
    return f"afterwards: {said or sorted(p.name for p in out.glob('.*'))}"


def stopped(study, out):
    "Stop a study at the last of its parts."
    class Enough(Exception): pass
    def progress(share):
        if share >= 1: raise Enough
    try: study(out, progress=progress)
    except Enough: return sorted((out/".parts").glob("*.parquet"))
    raise RuntimeError("the study came to its end")


def gone_on(study, folder, parts, way, k, draw, whole):
    "What is wrong with a study that goes on after the k-th of its parts was damaged."
    out = folder/"part"
    shutil.rmtree(out, ignore_errors=True); shutil.copytree(folder/"stopped", out)
    path, other = (out/".parts"/parts[i % len(parts)].name for i in (k, k + 1))
    if way == "renamed":   # another part under this one's name, with its own checksum
        path.unlink(); shutil.copy(other, path.with_name(path.name[:-41] + other.name[-41:]))
    else: put(path, damaged(way, path.read_bytes(), other.read_bytes(), draw))
    try: return differs(study(out), whole) or ", ".join(p.name for p in out.glob(".*"))
    except Exception as e: return f"{type(e).__name__}: {e}"


def finished_files(folder, whole, twin, draw, found, wrong, until):
    "Damage each file of a finished study in each way, then flip bits until the time is up."
    out = folder/"damaged"
    shutil.copytree(folder/"whole", out)
    names = sorted(p.name for p in out.iterdir())
    content = {n: (out/n).read_bytes() for n in names}
    kin = lambda n: [m for m in names if m.endswith(Path(n).suffix) and content[m] != content[n]]
    other = {n: content[draw.choice(kin(n))] if kin(n) else (twin/n).read_bytes() for n in names}
    def tried(name, way):
        fault = noticed(out, name, damaged(way, content[name], other[name], draw), whole)
        if fault: wrong.append(f"{name} {way}: {fault}")
        put(out/name, content[name])
        found["tried"] += 1; found["finished"] += 1
    for name in names:
        for way in (*WAYS, *["flipped"] * (FLIPS - 1)): tried(name, way)
    while time.monotonic() < until and not wrong[10:]: tried(draw.choice([*names, *["run.json"] * len(names)]), "flipped")
    return content, other


def advice(folder, study, whole, content, other, draw, found, wrong):
    "Do what the messages say, for each kind of file and damage."
    old = {k: v for k, v in json.loads(content["run.json"]).items() if k not in ("files", "sha256")}
    odd = {"{}": b"{}", "a list": b"[]", "of wrong types": json.dumps({**old, "n_layers": "4"}).encode(),
        "of an older version": json.dumps({**old, "settings": {}}).encode()}
    cases = [("run.json", what, data) for what, data in odd.items()] + [
        (name, way, damaged(way, content[name], other[name], draw)) for name, ways in
        (("run.json", ("flipped", "lost", "swapped")), ("triage.csv", ("flipped", "lost")), ("dropped.csv", ("emptied",)),
         ("patches.parquet", ("cut in half", "lost", "swapped")), ("lens.parquet", ("lost",))) for way in ways]
    for name, what, data in cases:
        out = folder/"advised"
        shutil.rmtree(out, ignore_errors=True); shutil.copytree(folder/"whole", out)
        put(out/name, data)
        if what == "of an older version": (out/"notes.csv").unlink()   # that wrote none
        fault = advised(out, study, whole)
        if fault: wrong.append(f"{name} {what}, advice: {fault}")
        found["tried"] += 1; found["advised"] += 1


def attack(
    seconds, # to work, about
    seed=0, # of the places
    folder=None, # where to work; a temporary one if not given
)->dict: # tried, wrong, and how many finished files, parts and pieces of advice
    "Damage a study, finished and stopped."
    with tempfile.TemporaryDirectory(dir=folder) as place:
        began, folder, draw = time.monotonic(), Path(place).resolve(), random.Random(seed)
        found, wrong = dict(tried=0, finished=0, advised=0, parts=0), []
        study = prepare(folder)
        whole = study(folder/"whole"); study(folder/"twin", pairs=2)
        parts = stopped(study, folder/"stopped")
        content, other = finished_files(folder, whole, folder/"twin", draw, found, wrong, began + seconds * .4)
        advice(folder, study, whole, content, other, draw, found, wrong)
        cases = [(way, k) for k in range(len(parts)) for way in (*WAYS, "renamed")]
        draw.shuffle(cases)
        first = lambda case: case[0] not in ("flipped", "swapped", "renamed") or case[1] > 1
        for way, k in sorted(cases, key=first):
            if time.monotonic() > began + seconds and found["parts"] >= 6 or wrong[10:]: break
            fault = gone_on(study, folder, parts, way, k, draw, whole)
            if fault: wrong.append(f"part {parts[k].name} {way}: {fault}")
            found["tried"] += 1; found["parts"] += 1
        return {**found, "wrong": wrong}
