"""Each number in the prose of the front page and of a model's page stands in a table: of the page, of the rows of its figures, or made again here from the study.

`python tests/test_numbers.py SITE RESULTS` says it of a site that is built: each number that no table holds, and how many wrong ones would be seen.
"""
import html, re, sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from attack import pages
from bizzaroworld import concentration, findings, front, headings, headline, inference, report
from bizzaroworld import judged as judged_claims
from bizzaroworld.schema import pick
from bizzaroworld.selection import on_top

SIGN = dict.fromkeys(map(ord, "−\u2011"), "-")
NUMBER = r"[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?"
ONE = re.compile(rf"(?<![\w.,^-])({NUMBER})(?![\w]|[.,]\d)( ?%)?")
THREE = re.compile(rf"(?<![\w.,])({NUMBER})( ?%)? \(({NUMBER}) to ({NUMBER})")
LAYERS = re.compile(r"(?<=\d)–(?=\d)")
# what is no measurement: the level of an interval, of a test, of a definition; names, dates and versions
FIXED = (r"95 ?%", r"5 ?% false", r"\(noising, 5 ?%\)", r"P\d+", r"at least 0\.9", r"4-bit", r"Q\d\w*", r"June 2026", r"20\d\d(-\d\d){2}", r"et al\. 2023", r"\d+\.\d+\.\d+", r"[0-9a-f]{12,}…?",
    r"below [−-]\d", r"below \d logits", r"at 80 ?%", r"experiments? \d(?:[A-F])?(?: and \d)?", r"\bis 0\b|holds 0|leave out 0|without 0", r"ranks \d–\d|ranks below \d", r"thresholds of 0\.1, 0\.2 and 0\.5",
    r"effect of 1|effect: 1", r"windows? of \d", r"0 % is not|100 % is all", r"Gemma-\w+|GPT-2|SmolLM2?\b[\w-]*", r"\bfive\b")


def text_of(markup): return " ".join(html.unescape(re.sub(r"<[^>]+>", "", markup)).replace("\u00a0", " ").split())


def prose(page, names=()):
    "The sentences of a page that hold a number: no table, no figure, no code; names of models taken out."
    main = re.search(r"(?s)<main.*</main>", Path(page).read_text(encoding="utf-8"))[0]
    main = re.sub(r"(?s)<(script|style|table|figure|pre|code|details class=\"bz-more bz-reproduce\")\b.*?</\1>", "", main.replace('<details class="bz-more bz-reproduce"', "<pre").replace("bz-reproduce", ""))
    blocks = re.findall(r'(?s)<(p|li|h1|h2|h3|summary|a class="bz-card"|div class="bz-card")\b[^>]*>(.*?)</(?:p|li|h\d|summary|a|div)>', main)
    for _, block in blocks:
        said = text_of(re.sub("</(?:b|span)>", " ; ", block) if "<span" in block else block)
        for name in sorted(names, key=len, reverse=True): said = said.replace(name, "the model")
        for fixed in FIXED: said = re.sub(rf"(?<!\w){fixed}" if fixed[0] != "(" else fixed, " ", said)
        if re.search(r"\d", said): yield LAYERS.sub(" to ", said.translate(SIGN))


def as_number(text): return float(text.replace(",", ""))


class Held:
    "The numbers that tables hold: alone, and with their intervals."
    def __init__(self): self.values, self.drawn, self.triples, self.shown, self.heads = [], [], [], set(), set()

    def table(self, markup):
        "A table of a page, as it is read."
        text = text_of(re.sub("</t[dh]>", " ; ", markup)).translate(SIGN)
        self.shown |= {(m[1], bool(m[2])) for m in ONE.finditer(text)}
        self.triples += [[as_number(m[i]) / (100 if m[2] else 1) for i in (1, 3, 4)] for m in THREE.finditer(text)]
        self.heads |= set(re.findall(r"L\d+(?:H|KV)\d+", text))

    def rows(self, table):
        "Rows of a figure: each number, and each mean with its ends."
        for column in table.select_dtypes("number"): self.drawn += table[column].dropna().tolist()
        for m in ("mean", "median", "difference", "half"):
            low, high = ("half_low", "half_high") if m == "half" else ("low", "high")
            if {m, low, high} <= set(table): self.triples += table[[m, low, high]].astype(float).dropna().to_numpy().tolist()

    def one(self, text, percent):
        "Whole numbers and shares must be made again, or shares stand in a table: somewhere among drawn rows is any of them."
        value, digits = as_number(text), len(text.partition(".")[2].partition("e")[0])
        if "e" in text: return any(f"{v:.{digits}e}" == f"{value:.{digits}e}" for v in self.values)
        coarse = digits == 0
        if (not coarse or percent) and (text.lstrip("+"), percent) in self.shown: return True
        known = np.asarray(self.values if coarse else self.values + self.drawn, float) * (100 if percent else 1)
        return bool((np.abs(np.round(known, digits) - value) < 1e-9).any() if percent or digits else (np.abs(known - value) < 1e-9).any())

    def three(self, texts, percent):
        digits, scale = len(texts[0].partition(".")[2]), 100 if percent else 1
        asked = np.array([as_number(t) for t in texts])
        found = np.round(np.asarray(self.triples, float).reshape(-1, 3) * scale, digits)
        return bool((np.abs(found - asked).max(axis=1) < 1e-9).any())


def made_again(held, read):
    "What sentences say of a study beyond its tables, made from the tables here."
    t, run, n = read.triage, read.run, read.n_layers
    held.values += [n, len(t), t.category.nunique(), int(on_top(t).sum()), len(read.heads("4F")), *run["counts"].values(), read.floor, run["noise_floor"]]
    held.values += [v for v in run["proof"].values()] if run.get("proof") else []
    held.values += [t.total_swing.mean(), t.total_swing.median(), t.total_swing.min(), t.total_swing.max(), t.p_clean_target_on_clean.median()]
    for d in ("noising", "denoising"):
        for which in ("storage", "routing", "readout"):
            row = read.phase(d, which)
            held.values += [v for k, v in row.items() if isinstance(v, (int, float, np.number)) and v == v]
        rows = pick(read.per_pair, direction=d)
        for what in ("release", "arrival"):
            m = findings.median_layer(rows, what)
            held.triples.append([m.estimate, m.low, m.high]); held.values += [m.estimate, m.low, m.high, *rows[what].quantile([.25, .75])]
        held.values += [int((rows.handover == headline.places_of(read.study).block).sum()), headline.places_of(read.study).block, headline.places_of(read.study).mlp]
        for e in ("4", "4F"):
            h = read.heads(e, d); held.rows(h); held.values.append(int(h.passes.sum())); held.heads |= {f"L{r.layer}H{int(r.head)}" for r in h.head(3).itertuples()}
    held.values += list(headings.means(read).values())
    steps = front.steps(front.Finished((read,), ("a",)))
    for table in (steps, concentrated(read)): held.rows(table)
    held.values += [*steps["mean"], *concentrated(read)["null"], pick(read.per_pair, direction="noising").handover_share.median()]
    more(held, read)
    for where in (dict(experiments="3", control="random_vector", layer=range(read.phase("noising", "storage")["last"] + 1), site="resid_pre"), dict(experiments="4F", control="random_head", layer=read.strongest.layer)):
        rows = pick(read.patches, where.pop("experiments"), direction="noising", **where)
        if len(rows): m = inference.over_pairs(rows, "effect"); held.triples.append([float(m.estimate), float(m.low), float(m.high)])
    legacy = read.legacy
    held.values += [legacy.worst.astype(float).mean(), legacy.onset.dropna().astype(float).mean(), int((legacy.worst == n - 1).sum()), n - 1, int(legacy.onset.notna().sum())]


def more(held, read):
    "What only the folded sections of a model's page say."
    over = lambda rows, value="effect": held.triples.append([float(getattr(inference.over_pairs(rows, value), k)) for k in ("estimate", "low", "high")])
    both = pick(read.real, ("1", "3"), site="resid_pre").pivot_table(index=["category", "battery_idx", "position", "layer"], columns="direction", values="effect").reset_index()
    both["gap"] = both.noising - both.denoising
    position, layer = both.groupby(["position", "layer"]).gap.mean().abs().idxmax()
    for value in ("noising", "denoising", "gap"): over(both[(both.position == position) & (both.layer == layer)], value)
    for where in ("entity", "final"): over(both[both.position == where], "gap")
    held.values.append(layer)
    top = read.heads("4").iloc[0]
    rest = pick(read.real, "4", direction="noising", layer=top.layer)
    if (rest["head"] != top["head"]).any(): over(rest[rest["head"] != top["head"]])
    five = pick(read.real, "5", direction="noising")
    held.values.append(five.battery_idx.nunique())
    strongest = five.groupby(["site", "window", "category", "battery_idx", "layer"]).effect.max().reset_index()
    for (site, window), rows in strongest.groupby(["site", "window"]):
        at = rows.groupby("layer").effect.mean().idxmax(); over(rows[rows.layer == at])
    for e, site in ((e, site) for e in ("2A", "2B") for site in ("attn_out", "mlp_out")):
        effects = inference.pair_matrix(read.real, experiment=e, site=site, direction="noising")
        best = inference.peak(effects, inference.categories(read.real, effects.index))
        held.values += [int(best.layer[best["mean"].idxmax()]), *best.share_of_draws, *best[best.may_be_peak].layer]
    pairs = read.legacy.merge(pick(read.per_pair, direction="noising")[["battery_idx", "release"]], on="battery_idx")
    old = pairs.release_legacy.astype(float).fillna(read.n_layers)
    for layers in (old, pairs.release, old - pairs.release):
        m = inference.cluster_bootstrap(np.stack([layers.astype(float), pairs.total_swing], 1), pairs.category.to_numpy(), statistic=inference.correlation)
        held.triples.append([float(m.estimate), float(m.low), float(m.high)])
    held.values += [(pairs.release_legacy.astype(float) - pairs.release).median()]
    for known in (judged_claims.verdicts([read.study]),): held.values += [*known.verdict.value_counts(), len(known), *known[known.id != "P17"].verdict.value_counts(), (known.id != "P17").sum()]


def concentrated(read):
    five = concentration.concentration(read.real)
    return pd.DataFrame([dict(mean=five["five_share"], low=five["five_share_low"], high=five["five_share_high"], null=five["five_null"])])


def held_by(site, results, page):
    "All that the tables of a site hold for one of its pages."
    held, site = Held(), Path(site)
    for other in {page, "index.html", "claims.html"}:
        if (site / other).is_file():
            for table in re.findall(r"(?s)<table.*?</table>", (site / other).read_text(encoding="utf-8")): held.table(table)
    for rows in (site / "figures").glob(f"{Path(page).stem}-*.parquet"):
        table = pd.read_parquet(rows)
        held.rows(table)
    every = front.all_finished(results)
    for read, folder in zip(every.readings, every.folders):
        if page == "index.html" or page == f"study-{folder}.html": made_again(held, read)
    return held, [*every.names, *every.folders]


def lost(sentence, held):
    "The numbers of a sentence that no table holds."
    found = [m[0] for m in THREE.finditer(sentence) if not held.three((m[1], m[3], m[4]), bool(m[2]))]
    rest = THREE.sub(" ", sentence)
    found += [h for h in re.findall(r"\bL\d+(?:H|KV)\d+", rest) if h not in held.heads]
    return found + [m[0] for m in ONE.finditer(re.sub(r"\bL\d+(?:H|KV)\d+", " ", rest)) if not held.one(m[1], bool(m[2]))]


def wronged(sentence):
    "The same sentence with one number after the other changed in its last place."
    for m in re.finditer(NUMBER, sentence):
        if re.match(r"\w", sentence[m.start() - 1:m.start()] or " "): continue
        digit = m[0][-1]
        yield sentence[:m.start()] + m[0][:-1] + str((int(digit) + 3) % 10) + sentence[m.end():]


def judged(site, results, page):
    "Sentences with numbers that no table holds; how many changed numbers are seen, of how many."
    held, names = held_by(site, results, page)
    said = list(prose(Path(site) / page, names))
    changed = [bool(lost(w, held)) for s in said if not lost(s, held) for w in wronged(s)]
    return [(lost(s, held), s) for s in said if lost(s, held)], sum(changed), len(changed)


# pairs whose words hold no digit, in four categories
WORDS = [a + b for a in "bcdfghjklm" for b in ("an", "er", "il", "os", "ut")]
FEW = pages.battery([(["tools", "birds", "rivers", "stones"][i % 4], "The name of {} is", f"a{WORDS[4 * i]}", f"a{WORDS[4 * i + 1]}", WORDS[4 * i + 2], WORDS[4 * i + 3]) for i in range(12)])


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    "A site of one small study."
    root = tmp_path_factory.mktemp("numbers")
    pages.tiny_study(root / "results", "small", FEW, layers=3, steps=150)
    found = pages.run_pages(root / "results", root / "proc", only=("study", "index", "claims"))
    assert len(found) == 3 and not [r for r in found.values() if isinstance(r, str)], found
    report.render_site(site=root / "site", proc=root / "proc")
    return root


@pytest.mark.parametrize("page, least", (("index.html", 15), ("study-small.html", 40)))
def test_each_number_of_the_prose_stands_in_a_table(built, page, least):
    "And a number that is changed in its last place is seen, most often."
    wrong, seen, of = judged(built / "site", built / "results", page)
    assert not wrong, wrong
    assert of >= least and seen >= .4 * of, (seen, of)


LONGEST = 30   # words of a sentence; a quotation and an interval in brackets are one each


def sentences(page):
    "The sentences of a page's prose: no table, figure or code."
    main = re.search(r"(?s)<main.*</main>", Path(page).read_text(encoding="utf-8"))[0]
    main = re.sub(r"(?s)<(script|style|table|figure|pre|nav|details class=\"bz-more bz-reproduce\")\b.*?</\1>", "", main.replace('<details class="bz-more bz-reproduce"', "<pre"))
    for _, block in re.findall(r"(?s)<(p|li)\b[^>]*>(.*?)</(?:p|li)>", main):
        said = re.sub(r"“[^”]*”|\([^()]*\d to [^()]*\)", "x", text_of(block))
        yield from re.split(r"(?<=[.!?:;]) (?=[A-Z“*])|(?<=[.!?]) ", said)


def too_long(page): return [(n, s) for s in sentences(page) if (n := len([w for w in s.split() if re.search(r"\w", w)])) > LONGEST]


@pytest.mark.parametrize("page", ("index.html", "study-small.html"))
def test_no_sentence_is_over_thirty_words(built, page):
    assert len(list(sentences(built / "site" / page))) > 30 and not too_long(built / "site" / page)


def test_a_long_sentence_is_seen(tmp_path):
    "Thirty words pass and one more does not; tables, quotations and intervals are no words."
    page = tmp_path / "page.html"
    write = lambda n: page.write_text(f"<main><p>{'word ' * (n - 2)}“{'quoted ' * 40}” (1 to 3). A short one.</p><table><tr><td><p>{'cell ' * 40}</p></table></main>")
    write(30); assert not too_long(page)
    write(31); assert [n for n, _ in too_long(page)] == [31]


def test_a_made_up_number_is_seen(built):
    held, _ = held_by(built / "site", built / "results", "index.html")
    for said in ("It moves 37.77 % of it.", "It moves 91 % (17 to 93).", "In 977 of 60 pairs.", "Head L77H7 does.", "The floor is 9.9e-05."): assert lost(said, held), said


if __name__ == "__main__":
    site, results = map(Path, sys.argv[1:3])
    for page in ("index.html", *sorted(p.name for p in site.glob("study-*.html"))):
        wrong, seen, of = judged(site, results, page)
        print(f"{page}: {len(wrong)} sentences with a number that no table holds; of {of} changed numbers {seen} are seen")
        for numbers, sentence in wrong: print("  ", numbers, "|", sentence[:300])
        for n, sentence in too_long(site / page): print(f"   {n} words:", sentence[:300])
