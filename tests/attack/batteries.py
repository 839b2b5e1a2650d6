"""Hostile battery files through the reader and through the command.

Each file must give an aligned battery, or one line that says what is wrong: never another exception,
never a control character on the terminal, never a wait.
"""
import contextlib, io, json, os, random, subprocess, sys, tempfile, time, unicodedata
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [p for p in (str(HERE.parent), str(HERE.parent.parent)) if p not in sys.path]

from bizzaroworld.schema import NOTES as NOTE_COLUMNS, names
from bizzaroworld.battery import COLUMNS, align, read_battery
from bizzaroworld.facts import InputError
from bizzaroworld.tokens import encode

SECONDS = 1.5   # no file may take longer, on a busy machine
ROWS = [("capitals", "The capital of france is", "The capital of japan is", " paris", " tokyo"),
        ("capitals", "The capital of spain is", "The capital of italy is", "madrid", "rome"),
        ("opposites", "The opposite of hot is", "The opposite of big is", " cold", " small"),
        ("fruit", "an apple is a", "an banana is a", " fruit", " long")]
ODD = ["\u00a0", "\u200b", "\u202e", "\u2066", "\ufeff", "\u200d", "\u00ad", "e\u0301", "\u00e9", "\u2028", "\x1b[31m", "\x07", "\x9b", "\r", "\n", "\t", "\x0c",
       "\U0001f600", "\ue000", "\U000e0041", "\u0600", "\u3000", "\u5df4\u9ece", "\u0e01", "\ud55c", "\u0936", "“", "”", "’", "«", "'", '"', "\\", "%", "{subject}", "=1+1",
       "<script>alert(1)</script>", "<!--", "]]>", "&amp;", "*a*", "_b_", "`c`", "{{< meta x >}}", ":::", "$x$", "|", "<bos>", "<eos>", "<unk>", "▁", "Ġ", " ", "  "]
WRONG = [0, 1, -1.5, 1e400, True, False, None, [], {}, [[]], {"a": {"b": []}}, 10**50, "", " ", "\ud800", "x" * 5000, "NA", "1000", "True"]


def small_tokenizers():
    "A word-level tokenizer, a byte-level BPE, and a SentencePiece-like BPE that puts a space before every text."
    import transformers
    from conftest import tiny_tokenizer
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    text = [" ".join(t for r in ROWS for t in r)] * 20 + ["isParis 2+2=4 12 : ( [ ' , . Paris Tokyo é"] * 20
    found = {"words": tiny_tokenizer(True)}
    for name, before, back, byte in (("bytes", pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel(), False),
                                     ("pieces", pre_tokenizers.Metaspace(prepend_scheme="always"), decoders.Metaspace(), True)):
        t = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=byte))
        t.pre_tokenizer, t.decoder = before, back
        special = ["<bos>", "<eos>", "<pad>", "<unk>", *(f"<0x{i:02X}>" for i in range(256) if byte)]
        alphabet = [] if byte else pre_tokenizers.ByteLevel.alphabet()
        t.train_from_iterator(text, trainers.BpeTrainer(vocab_size=900, special_tokens=special, initial_alphabet=alphabet, show_progress=False))
        found[name] = transformers.PreTrainedTokenizerFast(tokenizer_object=t, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>")
    for name, t in found.items(): t.context, t.wants_bos = 128, name == "words"
    return found


class Files:
    "A stream of hostile files, the same for the same seed."
    def __init__(self, seed): self.r = random.Random(seed)

    def odd(self, text):
        "A text with something strange in it, or around it."
        for _ in range(self.r.choice((1, 1, 1, 2, 5))):
            at, what = self.r.randrange(len(text) + 1), self.r.choice(ODD)
            text = self.r.choice((what + text, text + what, text[:at] + what + text[at:], what, text.strip(), text.upper(), unicodedata.normalize("NFD", text)))
        return text

    def rows(self, strange=0.3):
        "A few rows, some cells strange."
        return [[self.odd(c) if self.r.random() < strange else c for c in self.r.choice(ROWS)] for _ in range(self.r.choice((1, 2, 3, 8)))]

    def csv(self, rows, sign=",", end="\n"):
        "A CSV as programs write it, or as people do."
        style = self.r.choice(("program", "program", "careless", "curly"))
        def cell(c):
            if style == "curly": return f"“{c}”"
            return '"' + c.replace('"', '""') + '"' if style == "program" and set(c) & set(sign + '"\r\n') else c
        head = [self.r.choice((str, str, str.upper, lambda h: f" {h} ", lambda h: h.replace("_", " ")))(h) for h in COLUMNS]
        if self.r.random() < 0.1: self.r.shuffle(head)
        if self.r.random() < 0.04: head[self.r.randrange(5)] = self.r.choice((head[0], "", "x", self.odd("category")))
        first = self.r.choice(("", "", "", "", f"sep={sign}{end}", f"sep={sign}{end}", "\ufeff", end, "# a comment" + end))
        return first + end.join(sign.join(map(cell, row)) for row in [head, *rows]) + self.r.choice(("", end, end * 3, sign * 4 + end))

    def objects(self, rows, wrong=0.0):
        "A JSON list, or JSON lines, some values of the wrong kind."
        r = self.r
        found = [{c: r.choice(WRONG) if r.random() < wrong else v for c, v in zip(COLUMNS, row)} for row in rows]
        for o in found:
            if r.random() < wrong / 4: o.pop(r.choice(COLUMNS))
            if r.random() < wrong / 4: o["entity_token"] = r.choice(WRONG)
        if r.random() < 0.3: return "\n".join(map(json.dumps, found))
        text = json.dumps(r.choice((found, found, found, found[0], {"rows": found}, [found], dict(zip(COLUMNS, zip(*rows))))), indent=r.choice((None, 1)), ensure_ascii=r.random() < 0.5 or wrong > 0)
        return text.replace('"category"', '"category": "x", "category"', 1) if r.random() < 0.05 else text

    def huge(self):
        "What would take long or much, if it were let."
        r, head, row = self.r, ",".join(COLUMNS), ",".join(ROWS[0])
        long = r.choice(("a", "ab ", "\u0301", "'", "(", "paris ", "é", "1", "<bos>", "\u0316\u0301")) * r.choice((300, 40_000))
        place = r.randrange(5)
        return r.choice((
            lambda: head + "\n" + ",".join([*ROWS[0][:place], long, *ROWS[0][place + 1:]]),
            lambda: head + "\n" + "x," * 20_000, lambda: head + ",y" * 20_000 + "\n" + row, lambda: head + "\n" + row + "," * 20_000,
            lambda: head + "\n" + row + ',"' + long, lambda: "[" * 20_000, lambda: '{"category":' * 5000, lambda: json.dumps([dict(zip(COLUMNS, [long] * 5))]),
            lambda: "[" + ",".join(["{}"] * 20_000) + "]", lambda: json.dumps([{str(i): "" for i in range(20_000)}]), lambda: "\n" * 100_000 + head,
            lambda: head + "\n" + ("\n".join([row] * 300)), lambda: long))()

    def bytes(self):
        "One hostile file: its bytes, its ending, its kind."
        r = self.r
        kind = r.choice("noise cut flipped encoding delimiter odd odd odd types types objects huge mixed".split())
        end, ending = r.choice(("\n", "\r\n", "\r")), ".csv"
        if kind == "noise": data = r.randbytes(r.choice((1, 7, 300, 5000)))
        elif kind == "huge": data = self.huge().encode(errors="surrogatepass"); ending = r.choice((".csv", ".json"))
        elif kind in ("types", "objects"): data = self.objects(self.rows(), 0.3 * (kind == "types")).encode(errors="surrogatepass"); ending = r.choice((".json", ".jsonl", ".csv"))
        elif kind == "mixed": data = b"".join(self.bytes()[0][:r.choice((40, 4000))] for _ in range(2))
        else:
            sign = r.choice(",,;\t|: ") if kind == "delimiter" else ","
            data = self.csv(self.rows(0.6 if kind == "odd" else 0.15), sign, end).encode(r.choice((
                "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252", "shift_jis", "gb18030", "utf-7")) if kind == "encoding" else "utf-8", errors="replace")
            if kind == "cut": data = data[:r.randrange(len(data))]
            if kind == "flipped":
                data = bytearray(data)
                for _ in range(r.choice((1, 3, 30))): data[r.randrange(len(data))] ^= 1 << r.randrange(8)
        return bytes(data), r.choice((ending, ending, ending, ".csv", ".json", ".txt")), kind


def said_wrong(text, most=500):
    "What is wrong with a line for the terminal."
    if len(text) >= most: return f"{len(text)} letters"
    bad = [c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.category(c) == "Cf" and c not in "\u200c\u200d"]
    return f"holds {bad[0]!r}" if bad else ""


def battery_wrong(table, battery, tokenizer):
    "What is wrong with a battery that was aligned."
    if sorted([*battery.dropped["index"], *(p.battery_idx for p in battery.pairs)]) != list(range(len(table))): return "rows were lost"
    if list(battery.notes.columns) != names(NOTE_COLUMNS): return "notes have other columns"
    for text in (*battery.dropped.reason, *battery.notes.note):
        if said_wrong(text): return f"reason or note {said_wrong(text)}"
    for p in battery.pairs:
        clean, corrupt, row = p.clean_tokens, p.corrupt_tokens, table.iloc[p.battery_idx]
        if len(clean) != len(corrupt) or clean[-1] != corrupt[-1] or clean == corrupt: return "pair is not aligned"
        for prompt, ids in ((p.clean_prompt, clean), (p.corrupt_prompt, corrupt)):
            for target, one in ((p.clean_target, p.clean_target_id), (p.corrupt_target, p.corrupt_target_id)):
                if encode(tokenizer, prompt + target) != [*ids, one]: return f"{target!r} is not the token that follows {prompt!r}"
        for which in ("clean_target", "corrupt_target"):
            noted = battery.notes[(battery.notes["index"] == p.battery_idx) & (battery.notes.column == which)]
            if row[which] != getattr(p, which) and getattr(p, which) not in list(noted.read): return "a target was read otherwise without a note"
    page = battery._repr_html_()
    if "<script" in page or "<!--" in page or said_wrong(page.replace("\n", ""), 10**9): return "markup or control characters in the page"
    return ""


def one(path, tokenizer):
    "What became of a file, and what is wrong with that."
    began = time.perf_counter()
    try:
        table = read_battery(path)
        battery = align(table, tokenizer)
        end, wrong = "aligned" if battery.pairs else "no pair valid", battery_wrong(table, battery, tokenizer)
    except InputError as e: end, wrong = "refused", said_wrong(str(e))
    except Exception as e: end, wrong = "failed", f"{type(e).__name__}: {e}"
    took = time.perf_counter() - began
    return end, wrong or (f"took {took:.1f} s" if took > SECONDS else "")


def command(folder, path, own_process=False):
    "What is wrong with what the command says of a file."
    words = ["check", "--model", str(folder), "--battery", str(path)]
    if own_process:
        code = "import sys; from bizzaroworld.cli import main; sys.exit(main(sys.argv[1:]))"
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(HERE.parent.parent)}
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, errors="replace", timeout=120, env=env, stdin=subprocess.DEVNULL)
        status, out, said = done.returncode, done.stdout, done.stderr
    else:
        from bizzaroworld.cli import main
        with contextlib.redirect_stdout(io.StringIO()) as o, contextlib.redirect_stderr(io.StringIO()) as e: status = main(words)
        out, said = o.getvalue(), e.getvalue()
    lines = said.removesuffix("\n").split("\n") if said else []
    if status not in (0, 2): return f"status {status}: {said[-200:]!r}"
    if len(lines) != (status == 2): return f"status {status} and {len(lines)} lines on standard error: {said[-200:]!r}"
    return next(filter(None, map(said_wrong, [*lines, *out.split("\n")])), "")


def attack(seconds, seed=0, folder=None, files=3000, commands=100):
    "Files through the reader, then some through the command; the counts, and a line for each that went wrong."
    import transformers
    from conftest import tiny_model
    transformers.utils.logging.disable_progress_bar()
    began, wrong, ends = time.time(), [], {}
    with tempfile.TemporaryDirectory(dir=folder) as d:
        d, tokenizers, made = Path(d), small_tokenizers(), Files(seed)
        tiny_model("gemma3").save_pretrained(d / "model")
        tokenizers["words"].save_pretrained(d / "model")
        def write(n):
            data, ending, kind = made.bytes()
            path = d / f"battery{n}{ending}"
            path.write_bytes(data)
            return path, kind
        tried = asked = own = 0
        while tried < files and time.time() - began < seconds * 0.8:
            path, kind = write(tried)
            name = ("words", "bytes", "pieces")[tried % 3]
            end, fault = one(path, tokenizers[name])
            ends[end], tried = ends.get(end, 0) + 1, tried + 1
            if fault: wrong.append(f"file {tried - 1} of seed {seed} ({kind}, {name}): {fault}")
            else: path.unlink()
        while asked < commands and time.time() - began < seconds:
            path, kind = write(files + asked)
            fault = command(d / "model", path, own_process=asked % 25 == 24)
            own, asked = own + (asked % 25 == 24), asked + 1
            if fault: wrong.append(f"command on file {files + asked - 1} of seed {seed} ({kind}): {fault}")
    return dict(tried=tried + asked, wrong=wrong, files=tried, commands=asked, own_processes=own, **{k.replace(" ", "_"): n for k, n in ends.items()})


if __name__ == "__main__":
    found = attack(float(sys.argv[1]) if len(sys.argv) > 1 else 600, seed=int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    print(json.dumps({**found, "wrong": found["wrong"][:40]}, indent=1))
    sys.exit(bool(found["wrong"]))
