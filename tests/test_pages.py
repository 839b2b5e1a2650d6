"Pages of hostile text and of unlucky studies: nothing from outside is markup, nothing stops, and no number is none. More of both in `attack/pages.py`."
import ast, html, json, re
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest

import axe, zoo
from attack import pages
from bizzaroworld import audit, pair_pages, report, website
from bizzaroworld.network import Network
from bizzaroworld.models import load
from bizzaroworld.results import load_study, study_by_hand
from bizzaroworld.schema import by_hand
from bizzaroworld.measuring import about
from bizzaroworld.study import study
from bizzaroworld.audit import lacks_of, proven, reference_of
from bizzaroworld.words import visible

needs_browser = pytest.mark.skipif(pages.BROWSER is None, reason="no chromium or chrome on the PATH")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    "Two studies of a hostile battery, every page of the first, and the site."
    root, more = tmp_path_factory.mktemp("hostile"), dict(alike=pages.ALIKE, steps=150)
    for name, layers in ((pages.FOLDER, 2), ("b|c", 3)): pages.tiny_study(root / "results", name, pages.battery(), layers=layers, **more)
    found = pages.run_pages(root / "results", root / "proc", skip=["b|c"])
    assert len(found) == len(pages.PAGES) and not [r for r in found.values() if isinstance(r, str)], [r for r in found.values() if isinstance(r, str)]
    assert not report.run_pairs(root / "results", root / "proc/_executed")
    report.render_site(site=root / "site", proc=root / "proc")
    return root, found, [load_study(root / "results" / n) for n in (pages.FOLDER, "b|c")]


@needs_browser
@pytest.mark.parametrize("kind", pages.PAGES)
def test_hostile_text_is_read_letter_by_letter_and_none_of_it_runs(hostile, kind):
    root, found, studies = hostile
    (model, stem, shown), = ((*page[1:], r) for page, r in found.items() if page[0] == kind)
    assert not pages.wrongs(root / "site" / f"{stem}.html", shown, pages.texts_of(kind, model, studies))


@needs_browser
def test_the_pages_of_pairs_show_hostile_text_as_it_is(hostile):
    root, _, studies = hostile
    files = pair_pages.Paired(pages.FOLDER, studies[0]).files
    assert len(files) == len(studies[0].triage) and all((root / "site" / f"{f}.html").is_file() and (root / "site/pairs" / f"{f}.csv.zip").is_file() for f in files.values())
    rows = studies[0].triage.set_index("battery_idx")
    for idx in [*files][:4] + [i for i in rows.index if abs(rows.total_swing[i]) < 1e-6]:
        page = root / "site" / f"{files[idx]}.html"
        texts = [rows[k][idx] for k in ("clean_prompt", "corrupt_target")]
        seen = pages.Seen(pages.dom(page))
        assert not seen.hacked and "could not be drawn" not in seen.text, page.name
        for t in texts: assert "".join(visible(t).split()) in "".join(seen.text.split()), (page.name, t)


@needs_browser
@pytest.mark.skipif(axe.SOURCE is None, reason="axe-core-python is not installed")
@pytest.mark.parametrize("kind", (*pages.PAGES, "pair", "method", "chapter"))
def test_nothing_serious_stands_in_the_way_of_a_reader(hostile, kind):
    "axe-core, everything unfolded, in the light and wide, and in the dark on a telephone."
    root, found, studies = hostile
    stems = {**{page[0]: page[2] for page in found}, "pair": next(iter(pair_pages.Paired(pages.FOLDER, studies[0]).files.values())), "method": "method", "chapter": "04_patching"}
    for options in (dict(width=1280), dict(width=500, dark=True)):
        wrong = axe.violations(root / "site" / f"{stems[kind]}.html", **options)
        assert not [w for w in wrong if w["impact"] in ("serious", "critical")], (options, wrong)


@needs_browser
def test_axe_sees_what_is_wrong(tmp_path):
    if axe.SOURCE is None: pytest.skip("axe-core-python is not installed")
    (tmp_path / "a.html").write_text('<html lang="en"><body><main><img src="data:,"><p style="color:#aaa;background:#fff">pale</p></main></body></html>')
    assert {"image-alt", "color-contrast"} <= {w["id"] for w in axe.violations(tmp_path / "a.html")}


def test_what_can_be_taken_along_opens(hostile):
    root, *_ = hostile
    taken = sorted((root / "site/figures").iterdir())
    assert len({p.suffix for p in taken}) == 4 and len(taken) > 60
    for path in taken:
        if path.suffix == ".csv": assert len(pd.read_csv(path)) == len(pd.read_parquet(path.with_suffix(".parquet"))) > 0
        if path.suffix == ".svg": assert path.read_text(encoding="utf-8").startswith("<svg")
        if path.suffix == ".png": assert path.read_bytes().startswith(b"\x89PNG")
    assert len(pd.read_csv(next((root / "site/pairs").glob("*.csv.zip")))) > 50


def test_every_link_and_anchor_resolves(hostile):
    root, *_ = hostile
    site, ids = root / "site", {}
    def names(page):
        if page not in ids: ids[page] = set(re.findall(r"""\sid=["']?([^"'\s>]+)""", page.read_text(encoding="utf-8")))
        return ids[page]
    for page in site.glob("*.html"):
        for href in re.findall(r"""<a\b[^>]*\bhref="([^"]+)\"""", page.read_text(encoding="utf-8")):
            file, _, at = html.unescape(href).partition("#")
            if re.match(r"[a-z]+:|//", file): continue
            to = site / unquote(file) if file else page
            if to.name == "performance.html" or "-b-c~" in to.name: continue   # not made here
            assert to.exists(), f"{page.name}: {href}"
            if at and to.suffix == ".html": assert unquote(at) in names(to) or at in names(to), f"{page.name}: {href}"


@needs_browser
def test_this_test_sees_text_that_runs(tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<main><h2>a</h2><p>*one* <i>two</i></p><img src=x onerror=\"" + pages.RUN + "\"></main>")
    said = pages.wrongs(page, dict(cells=[dict(cell_type="markdown", source="## a\n\n## b")]), ["*one*", "<i>two</i>"])
    assert len(said) == 3 and "ran" in said[0] and "'b'" in said[1] and "<i>two</i>" in said[2]


def test_a_pair_without_a_difference_is_named_and_left_out(hostile):
    _, found, studies = hostile
    shown = [pages.html.unescape(t) for page, r in found.items() if page[0] == "study" for t in pages.outputs(r)]
    assert sum("1 pair has the same LD in both runs" in t and "The twin of left* is" in t for t in shown) == 1
    assert (studies[0].triage.total_swing.abs() < 1e-6).sum() == 1


def test_one_pair_in_one_layer_of_one_head_has_all_its_pages(tmp_path):
    table, options = pages.UNLUCKY["one"]
    pages.tiny_study(tmp_path / "results", "one", table, **options)
    found = pages.run_pages(tmp_path / "results", tmp_path / "proc", only=("study", "routes", "index"))
    assert not [r for r in found.values() if isinstance(r, str)], [r for r in found.values() if isinstance(r, str)]
    for page, r in found.items():
        said = " ".join([*pages.outputs(r), *(t for t in pages.outputs(r, "text/html") if "application/json" not in t)])
        assert "too few pairs for an interval" in said and not pages.re.search(r"(?<!\w)(nan|NaN|inf|<NA>)(?!\w)", said), page
        assert "NaN" not in json.dumps([o["data"] for c in r["cells"] for o in c.get("outputs", []) if "data" in o]), f"{page}: a picture that no browser reads"


def test_the_proof_and_the_notes_stand_on_the_model_s_page():
    "Where a study has them; the proof is what `run.json` says."
    real = study_by_hand(by_hand(.5), proof=dict(patches=33, largest=2e-6, floor=1e-6))
    real.notes.loc[0] = [0, "clean_target", "a", " a", "read with a space"]
    cells = "".join("".join(c["source"]) for c in json.loads((website.book() / "reports/study.ipynb").read_text())["cells"])
    assert "audit.what_was_run(read.study" in cells and "audit.chosen_pairs(read.study" in cells
    assert "33 patches" in audit.what_was_run(real, 1e-6).text and "1 text of the battery was read otherwise" in audit.chosen_pairs(real, "none").text
    assert proven({}) == "" and "33 patches" in proven(dict(patches=33, largest=2e-6, floor=1e-6)) and "2.0e-06" in proven(dict(patches=1, largest=2e-6))


# what each family's page says of it: pieces of its sentences; no more sentences than that
SAID = {
    "gpt2": ("bridge", []), "llama": ("bridge", []),
    "gpt_neox": ("bridge", ["`resid_mid`: experiments 2A and 2B have four sites"]),
    "gemma4_small": ("own modules, since", ["token's own identity still enters each layer", "do not sum to `resid_post`", "ayers 2 and 3 read the keys and values of an earlier layer"]),
    "qwen3_moe": ("", ["mixtures of 4 experts. The router is part of `mlp_out`"]),
    "deepseek_v3": ("one latent key", ["mixtures of 4 experts", "one latent key. It is patched as `k`"]),
    "mpt": ("bridge", ["experiment 6 has no `q`"]),
    "opt_350m": ("", ["do not sum to `resid_post`"]),
}


@pytest.mark.parametrize("family", SAID)
def test_what_a_family_lacks_is_said_and_no_more(family, tmp_path):
    model = load(str(zoo.save(family, tmp_path / family)), device="cpu")
    run, (reference, lacks) = about(model, Network(model)), SAID[family]
    assert run["model_class"] in reference_of(run) and reference in reference_of(run)
    said = lacks_of(run)
    assert len(said) == len(lacks) and all(piece in s for piece, s in zip(lacks, said)), said


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss", "gemma4_moe", "granitemoe", "llama4", "phimoe", "dots1", "qwen2_moe", "olmoe", "deepseek_v2", "mistral", "gpt_neo", "gemma4", "gemma3", "falcon"])
def test_experts_and_windows_are_read_from_every_kind_of_configuration(family):
    from bizzaroworld.measuring import EXPERTS, _first, _layer_kinds
    config, mixture = zoo.tiny(family).config, family not in ("mistral", "gpt_neo", "gemma4", "gemma3", "falcon")
    assert (_first(config, EXPERTS) == 4) if mixture else not _first(config, EXPERTS)
    local = dict(mistral=4, mixtral=4, phimoe=0, gpt_neo=2, falcon=0, gpt_oss=2, llama4=2).get(family)
    assert local is None or sum(k != "full_attention" for k in _layer_kinds(config, 4)) == local


def test_tables_that_are_not_there_and_older_studies():
    assert reference_of({}) == "" and lacks_of({}) == [] and lacks_of(dict(left_out={})) == []
    one, = lacks_of(dict(left_out=dict(attention="no weights", patterns="no weights", paths="<b>x</b>")))
    assert "`attention` and `patterns` (no weights); `paths` (" in one and "<b>" not in one


# words of `zoo.tiny_tokenizer`, in three categories
FEW = pd.DataFrame([("capital", "the capital of france is", "the capital of japan is", " paris", " tokyo"), ("capital", "the capital of spain is", "the capital of italy is", " madrid", " rome"),
    ("opposite", "the opposite of hot is", "the opposite of big is", " cold", " small"), ("city", "the city of new york is", "the city of south korea is", " big", " small")], columns=pages.KEY)


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    "Parallel blocks, and per-layer embeddings with shared keys: models that learned a few facts, their studies and their pages."
    root = tmp_path_factory.mktemp("families")
    for name in ("gpt_neox", "gemma4_small"):
        model, tokenizer = zoo.tiny(name), zoo.tiny_tokenizer(name.startswith("gemma"))
        pages.teach(model, tokenizer, FEW, steps=60)
        model.save_pretrained(root / "models" / name); tokenizer.save_pretrained(root / "models" / name)
        study(load(str(root / "models" / name), device="cpu"), FEW, out=root / "results" / name, source="by hand")
    return root, pages.run_pages(root / "results", root / "proc", only=("study", "compare"))


def test_the_pages_of_families_say_what_is_not_there(families):
    root, found = families
    assert len(found) == 3 and not [r for r in found.values() if isinstance(r, str)], [r for r in found.values() if isinstance(r, str)]
    for name in ("gpt_neox", "gemma4_small"):
        run = load_study(root / "results" / name).run
        seen = {kind: [*pages.outputs(r), *pages.outputs(r, "text/html")] for (kind, model, _), r in found.items() if model == name}
        for sentence in (reference_of(run), *lacks_of(run)): assert sentence in seen["study"], f"{name}'s page does not say: {sentence}"
        assert not any(pages.re.search(r"(?<![\w&#;])(nan|NaN|<NA>)(?!\w)", t) for texts in seen.values() for t in texts if "application/json" not in t), name
    pictures = json.dumps([o["data"] for (_, model, _), r in found.items() if model == "gpt_neox" for c in r["cells"] for o in c.get("outputs", []) if "data" in o])
    assert "All four sites" in pictures and pictures.count("resid_mid") == 1, "resid_mid is in one sentence alone"
    shown = pages.Seen("".join(pages.outputs(next(r for (kind, *_), r in found.items() if kind == "compare"), "text/html"))).text
    assert "GPTNeoX (gpt_neox)" in shown and "Gemma (gemma4_text)" in shown and "global in layers 1 and 3, local in the other 2 (a window of 3 tokens)" in shown


# names and columns that hold text from outside, and calls that give something harmless
OUTSIDE = {"name", "model", "names", "folder", "clean_prompt", "corrupt_prompt", "clean_target", "corrupt_target", "category", "reason", "cause", "control", "published", "battery", "machine",
    "command", "leak", "e"}
HARMLESS = {"letters", "page_file", "len", "int", "boxes"}
TOLD = ("findings", "support", "audit", "travel", "front", "studies", "comparison", "browser", "performance")   # modules that say what pages say


def raw_texts(tree, more=()):
    "Pieces of shown f-strings that name text from outside as it is."
    def called(node): return getattr(node.func, "attr", getattr(node.func, "id", ""))
    def outside(node):
        if isinstance(node, ast.Call) and called(node) in HARMLESS: return False
        if isinstance(node, (ast.comprehension, ast.Compare)): return False       # where it comes from, not what is said
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant): return node.slice.value in OUTSIDE - {"name"}      # a head's
        if isinstance(node, ast.Subscript): return outside(node.value)
        if isinstance(node, ast.Attribute): return node.attr in OUTSIDE
        if isinstance(node, ast.Name): return node.id in OUTSIDE or node.id in more
        if isinstance(node, ast.IfExp): return outside(node.body) or outside(node.orelse)
        return any(map(outside, ast.iter_child_nodes(node)))
    values = [v for f in ast.walk(tree) if isinstance(f, ast.JoinedStr) for v in f.values if isinstance(v, ast.FormattedValue) and not isinstance(v.value, ast.JoinedStr)]
    return sorted({ast.unparse(v) for v in values if outside(v.value)})


# named as they are, and harmless: an error's words, which are escaped where they are shown; a cell or a head of `show_table`, which escapes; the title or
# the caption of a picture, which the page escapes; a head's name, or text that `letters` has seen before
KNOWN = {"findings": {"{peak_text(read, e, 'attn_out')}", "{peak_text(read, e, 'mlp_out')}"}, "support": {"{kept.clean_prompt[i]}", "{kept.clean_target[i]}"},
    "audit": {"{listed(names)}", "{model}", "{reason}", "{run['battery']}", "{study.run['model']}"}, "travel": {"{name}"}, "front": {"{folder}", "{name}", "{named(of_study(folder))}"},
    "comparison": {"{bold(r.control)}", "{control}", "{listed(map(letters, names))}"},
    "studies": {"{listed(names)}", "{run['battery']}"},
    "performance": {"{f['model']}"}, "reports/study": {"{read.name}"}}


@pytest.mark.parametrize("module", TOLD)
def test_no_sentence_names_a_text_from_outside_as_it_is(module):
    source = (Path(report.__file__).parent / f"{module}.py").read_text()
    assert set(raw_texts(ast.parse(source))) == KNOWN.get(module, set())
    assert "html.escape" not in source, "words.letters is the one place"


@pytest.mark.parametrize("page", ["reports/study", "reports/routes", "reports/compare", "reports/performance", "index", "reports/battery"])
def test_no_page_shows_a_text_from_outside_as_it_is(page):
    cells = [c for c in json.loads((website.book() / f"{page}.ipynb").read_text())["cells"] if c["cell_type"] == "code"]
    assert {t for c in cells for t in raw_texts(ast.parse("".join(c["source"])))} == KNOWN.get(page, set())
    assert raw_texts(ast.parse('finding(f"in {name}")')) and not raw_texts(ast.parse('finding(f"in {letters(name)}")'))
