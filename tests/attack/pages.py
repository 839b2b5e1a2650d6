"""A battery of hostile text, and unlucky studies of other kinds, through every page and into a browser.

Every text that a battery, a model's name or a path brings tries to be markup: HTML, comments, scripts, Markdown, mathematics, short codes.
On a page it must stand letter by letter, and none of it may run.
"""
import html, json, re, shutil, subprocess, sys, tempfile, time
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd

KEY = ["category", "clean_prompt", "corrupt_prompt", "clean_target", "corrupt_target"]
RUN = "document.documentElement.tabIndex=7"    # what each payload would do; no quotes, which a renderer bends

# category, frame of the prompt with the entity as {}, the two entities, the two targets; every word is one token
HOSTILE = [
    (f"<!--<script>{RUN}", "The capital of {} is", "France", "Japan", "Paris", "Tokyo"),
    (f"<script>{RUN}</script>", "The <script>" + RUN + "</script> of {} is", "Spain", "Italy", "<b>Madrid</b>", "<i>Rome</i>"),
    ("</script></div></main>", "A <!--<script> of {} --> is", f"<img/src=x/onerror={RUN}>", f"<svg/onload={RUN}>", "</script>", "<!--x"),
    ("*a* _b_ `c` ~~d~~ $e$", "The *star* _under_ `tick` $x^2$ ~~of~~ {} is", "**bold**", "__init__", "*one*", "`two`"),
    ("a|b [c](javascript:alert) ![d](x)", "|a|b| [link](javascript:alert) ![i](x) # {} is", "$$a$$", "\\(b\\)", "|3|", "[4]"),
    ("{{< include /etc/hostname >}} {=html}", "{{< meta title >}} {} ::: {.cell} is", "&lt;b&gt;", "&amp;", "{{<y", "```"),
    ("a.b[c]:Q 'd' \"e\" \\f", "Say 'it' or \"that\" \\n {} datum.kind:N is", "</title>", "</textarea>", "'q'", '"r"'),
    (" 4", "The number after {} is", "3", "5", "4", "6"),
    ("True", "<!-- {} --> is", "True", "False", "NA", "null"),
    ("<script>no swing</script>", "The twin of {} is", "left*", "right*", "_up_", "_down_"),
    ("--- ...", "A---b -- ... {} is", "--c", "d--", "-->a", "...b"),
    ("日本 é \u202eabc\u200b", "日本 の {} \u202eis\u200b", "東京", "大阪", "é", "ü"),
]
ALIKE = ("left*", "right*")      # read as the same, so LD is the same in both runs
FOLDER = "a_b*c <i>#1 `x` $y$ %20 & [z]"     # a model's name; a slash cannot be in it


def battery(rows=HOSTILE):
    "The table of a battery."
    fill = lambda frame, entity: frame.replace("{}", entity, 1) if "{{" not in frame else frame.replace(" {} ", f" {entity} ", 1)
    return pd.DataFrame([(c, fill(f, a), fill(f, b), f" {x}", f" {y}") for c, f, a, b, x, y in rows], columns=KEY)


def tokenizer_for(table):
    "A word-level tokenizer that knows each word of the table."
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    words = [w for column in KEY[1:] for text in table[column] for w in text.replace(" ", " ▁").split(" ")]
    vocab = {w: i for i, w in enumerate(dict.fromkeys(["<pad>", "<eos>", "<unk>", *filter(None, words)]))}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>", unk_token="<unk>")


def teach(model, tokenizer, table, steps):
    "Let a tiny model learn the table's facts."
    import torch
    rows = [(p, t) for r in table.itertuples() for p, t in ((r.clean_prompt, r.clean_target), (r.corrupt_prompt, r.corrupt_target))]
    prompts = [tokenizer.encode(p) for p, _ in rows]
    ids = torch.tensor([p + [0] * (max(map(len, prompts)) - len(p)) for p in prompts])
    last, right = torch.tensor([len(p) - 1 for p in prompts]), torch.tensor([tokenizer.encode(t, add_special_tokens=False)[0] for _, t in rows])
    step = torch.optim.Adam(model.parameters(), .01)
    for _ in range(steps):
        logits = model(ids).logits[torch.arange(len(rows)), last]      # what is padded comes later and is not seen
        step.zero_grad(); torch.nn.functional.cross_entropy(logits, right).backward(); step.step()


def tiny_folder(folder, table, *, layers=2, heads=2, alike=(), steps=0):
    "A random model for the table's words, saved, which may learn its facts; the words in `alike` are read as the same."
    import torch, transformers
    tokenizer = tokenizer_for(table)
    torch.manual_seed(0)
    shape = dict(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=256, pad_token_id=0, eos_token_id=1, bos_token_id=None)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 2: p.normal_(0, 1.5 / p.shape[1] ** 0.5)
    if steps: teach(model, tokenizer, table, steps)
    with torch.no_grad():
        same = [tokenizer.convert_tokens_to_ids("▁" + w) for w in alike]
        for i in same[1:]: model.model.embed_tokens.weight[i] = model.model.embed_tokens.weight[same[0]]
    model.save_pretrained(folder); tokenizer.save_pretrained(folder)
    return folder


def tiny_study(results, name, table, *, quick=False, **options):
    "A finished study of the table by a tiny model of that name."
    from bizzaroworld.models import load
    from bizzaroworld.study import study
    folder = tiny_folder(Path(results).parent/"models"/name, table, **options)
    return study(load(str(folder), device="cpu", self_test=False), table, out=Path(results)/name, source="by hand", quick=quick)


BROWSER = next((b for b in map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome")) if b), None)
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


def one_space(text): return " ".join(str(text).replace("’", "'").split())      # a renderer may bend an apostrophe


class Seen(HTMLParser):
    "What a reader sees of a page as the browser has it after its scripts have run."
    def __init__(self, markup):
        super().__init__(convert_charrefs=True)
        self.texts, self.headings, self.hacked, self.images, self.open = [], [], False, 0, []
        self.feed(markup); self.close()
        self.text = one_space("".join(self.texts))

    def handle_starttag(self, tag, attrs):
        self.hacked |= any((tag, k, v) == ("html", "tabindex", "7") or k.startswith("on") and "tabIndex" in (v or "") for k, v in attrs)
        if tag not in VOID: self.open.append(tag)
        if tag == "h2": self.headings.append("")
        if tag in ("p", "td", "th", "li", "div", "br", "tr", "h1", "h2", "h3", "text", "button"): self.texts.append(" ")

    def handle_endtag(self, tag):
        while tag in self.open and self.open.pop() != tag: pass
        if tag in ("p", "td", "th", "li", "div", "tr", "h1", "h2", "h3", "text", "button"): self.texts.append(" ")

    def handle_data(self, data):
        if {"script", "style"} & set(self.open): return
        self.texts.append(data)
        if "h2" in self.open: self.headings[-1] += data


def dom(page):
    "The page's elements after its scripts have run, with every host name unknown."
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND",
        "--window-size=1280,900", "--allow-file-access-from-files", "--virtual-time-budget=15000", "--dump-dom", Path(page).resolve().as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120).stdout


def outputs(notebook, kind="text/markdown"):
    "What the cells of an executed notebook showed, one text each."
    for c in notebook["cells"]:
        for o in c.get("outputs", []):
            if kind in o.get("data", {}): yield "".join(o["data"][kind])


def sections(notebook):
    "The headings that an executed notebook has, as text."
    shown = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown"] + list(outputs(notebook))
    return [one_space(html.unescape(re.sub(r"[*`]", "", h))) for text in shown for h in re.findall(r"(?m)^## (.+?)(?: *\{#[\w-]+\})?$", text)]


def wrongs(page, notebook, texts):
    "What is wrong with a built page: code that ran, sections, pictures or texts that are not there, and numbers that are none."
    from bizzaroworld.words import visible
    seen, said = Seen(dom(page)), []
    if seen.hacked: said.append("text from outside ran, or became an element's handler")
    said += [f"no section {h!r}" for h in sections(notebook) if h not in map(one_space, seen.headings)]
    said += [f"not read letter by letter: {t!r}" for t in dict.fromkeys(texts) if one_space(visible(t)) not in seen.text]
    if "could not be drawn" in seen.text: said.append("a picture is not drawn")
    said += [f"a number that is none: {m!r}" for m in dict.fromkeys(re.findall(r".{0,40}(?<![\w&#;])(?:nan|NaN|inf|∞|<NA>)(?!\w).{0,20}", seen.text))]
    return said


PAGES = ("study", "routes", "compare", "battery", "index", "claims", "explorer")


def run_pages(results, proc, only=PAGES, skip=()):
    "Execute the pages of all studies but those whose own pages are skipped: `(kind, model, file)` and the executed notebook, or the reason why it failed."
    from concurrent.futures import ThreadPoolExecutor
    from bizzaroworld import report, website
    jobs = [j for j in report.report_jobs(Path(results), Path(proc)/"_executed") if Path(j[0]).name in only and j[2].get("model") not in skip]
    def run(job):
        notebook, out, parameters = job
        page = Path(notebook).name, parameters.get("model", ""), out.stem
        try: report.run_notebook(website.book()/f"{notebook}.ipynb", out, threads=1, **parameters)
        except Exception as e: return page, f"{type(e).__name__}: {e}"
        return page, json.loads(out.read_text(encoding="utf-8"))
    with ThreadPoolExecutor(2) as pool: return dict(pool.map(run, jobs))


def texts_of(kind, model, studies):
    "The texts from outside that a page of these studies shows."
    own = [s for s in studies if s.run["model"] == model] or studies
    names = [s.run["model"] for s in own]
    rows = [r for s in own for r in s.triage.head(10 if kind == "study" else 10**6).itertuples()]
    if kind == "battery": return names + [getattr(r, k) for r in rows for k in KEY]
    if kind == "study": return names + [getattr(r, k) for r in rows for k in KEY if k != "corrupt_prompt"]
    if kind != "routes" or "patterns" not in own[0].tables: return names
    from bizzaroworld.inference import measured_study
    from bizzaroworld.travel import PICTURES
    measured, shown = measured_study(own[0]), own[0].triage.set_index("battery_idx")   # of pairs that have an effect
    best = set(measured.triage.sort_values("rank").drop_duplicates("category").battery_idx)
    some = [i for i in measured.tables["patterns"].battery_idx.unique() if i in best][:PICTURES]
    return names + [shown[k][i] for i in some for k in ("clean_prompt", "clean_target")]


def counted(n, *, categories=1, words=3, category="c{}", target="t{}", entity="e{}"):
    "n pairs in some categories, each prompt of so many words."
    rows = []
    for i in range(n):
        k = i % categories
        filler = " ".join(f"w{j}" for j in range(words - 2))
        rows.append((category.format(k), f"{filler} {{}} is".strip(), entity.format(2 * i), entity.format(2 * i + 1), target.format(2 * i), target.format(2 * i + 1)))
    return battery(rows)


# studies that are small, alike or long in some way: table, and options of `tiny_study`
UNLUCKY = {
    "one": (counted(1), dict(layers=1, heads=1)),
    "two": (counted(2), dict(layers=1, heads=2, steps=60)),
    "still": (counted(2, categories=2), dict(alike=("e0", "e1"), steps=60)),             # one of two pairs has no swing
    "1000": (counted(9, target="{}", category="{}"), dict(layers=2, heads=1, steps=100)),  # text that looks like numbers, one category
    "2024_06": (counted(1, target="True").assign(category="True", corrupt_target=" False"), dict(layers=2, heads=2, steps=60)),
    "same": (counted(6, categories=3), dict(alike=tuple(f"e{i}" for i in range(0, 12, 2)), steps=0)),
    "quick": (counted(4, categories=2), dict(quick=True, steps=60)),
    "long": (counted(3, categories=3, words=60), dict(heads=4, steps=30)),
    "many": (counted(150, categories=150), dict(steps=60)),
    "all": (counted(4, categories=2).assign(category=["all", "all", "None", "NA"]), dict(steps=60)),
}


PIECES = ["<script>", "</script>", "<!--", "-->", f"<img/src=x/onerror={RUN}>", "<b>", "*", "**", "_", "__", "`", "```", "$", "$$", "{{<", ">}}", "{=html}", ":::", "|", "[a](b)",
    "![", "&lt;", "&", "#", "'", '"', "\\", "~~", "^", "1.", "-", "+", "=", "@", "a", "b", "Z", "9", "é", "東", "\u200d", "🙂", "\u202e"]


def random_rows(rng, count):
    "Rows of a battery of random pieces of markup; each word is another one."
    made = set()
    def word():
        while (w := "".join(rng.choices(PIECES, k=rng.randint(1, 4))).replace("{}", "")) in made or not any(c.isprintable() and not c.isspace() for c in w) or w.startswith("@"): pass   # what nobody sees is no word
        made.add(w); return w
    frame = lambda: " ".join([word(), word(), "{}", word()])
    return [(" ".join([word(), word()]), frame(), word(), word(), word(), word()) for _ in range(count)]


def opened(root, skip=()):
    "Run and open every page of the studies below a folder: how many, and what is wrong."
    from bizzaroworld import report, website
    from bizzaroworld.results import finished, load_study
    found = run_pages(root/"results", root/"proc", skip=skip)
    wrong = [f"{kind}: {one_space(r)[-300:]}" for (kind, _, _), r in found.items() if isinstance(r, str)]
    if wrong or not BROWSER: return len(found), wrong
    report.render_site(site=root/"site", proc=root/"proc")
    studies = [load_study(d) for d in finished(root/"results")]
    for (kind, model, stem), notebook in found.items():
        wrong += [f"{kind}: {w}" for w in wrongs(root/"site"/f"{stem}.html", notebook, texts_of(kind, model, studies))]
    return len(found), wrong


def attack(seconds, seed=0, folder=None):
    "Hostile and unlucky studies through every page, for about so many seconds."
    import random
    from bizzaroworld.facts import InputError
    began, rng, tried, studied, refused, wrong = time.time(), random.Random(seed), 0, 0, 0, []
    left = lambda: time.time() - began < seconds
    with tempfile.TemporaryDirectory(dir=folder) as top:
        def go(names, tables, options, skip=()):
            nonlocal tried, studied
            root = Path(top)/f"{studied:03d}"
            for name, table, more in zip(names, tables, options): tiny_study(root/"results", name, table, **more)
            n, bad = opened(root, skip); tried += n; studied += len(names); wrong.extend(f"{names[0]}: {w}" for w in bad)
        go([FOLDER, "b|c"], [battery()] * 2, [dict(alike=ALIKE, steps=150), dict(alike=ALIKE, steps=150, layers=3)], skip=["b|c"])
        for name, (table, options) in UNLUCKY.items():
            if left(): go([name], [table], [options])
        while left():
            try: go([f"r{studied}"], [battery(random_rows(rng, 6))], [dict(steps=60)])
            except InputError: refused += 1   # a line instead of a study: the section `batteries` looks at those
    return dict(tried=tried, wrong=wrong, studies=studied, refused=refused, browser=bool(BROWSER))
