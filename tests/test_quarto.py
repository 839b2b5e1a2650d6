"What Quarto needs, held by its causes, since no Quarto is at hand: lists of lines, nothing raw that shows, its calls and its words by a stand-in."
import json, os, re, shlex, subprocess, sys
from collections import Counter
from pathlib import Path

import nbformat
import pytest
import yaml

from bizzaroworld import report, website
from bizzaroworld.facts import InputError

BOOK = website.workplace()
SOURCES = sorted(p for p in (BOOK / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
HOSTILE = "```\n:::\n{{< env HOME >}} <b>*x*</b>"


def page_of(path): return website.to_page(json.loads(path.read_text(encoding="utf-8")), prose=not (path.name[0].isdigit() or path.stem == "tutorial"))


def made_by_hand():
    "A page with each kind of output, and hostile text in all of them."
    chart = {"title": {"text": HOSTILE, "subtitle": "60 pairs"}, "mark": "bar", "data": {"values": [{"t": HOSTILE + "</script>"}]}}
    table = '<style scoped>td {{}}</style><table border="1"><tr><td title="{{< env HOME >}}">a\n```\nb</td></tr></table>'
    shown = [{"application/vnd.vegalite.v6+json": chart, "text/plain": "…"}, {"text/html": table}, {"text/markdown": "Some *prose*\n\n- {{< meta title >}}"}, {"text/plain": HOSTILE}]
    outputs = [nbformat.v4.new_output("display_data", data=d) for d in shown] + [nbformat.v4.new_output("stream", text=HOSTILE + "\n\nlast\n")]
    cells = [nbformat.v4.new_raw_cell("---\nskip_exec: true\n---"), nbformat.v4.new_markdown_cell("# A page\n\n> by hand\n\nwords"), nbformat.v4.new_code_cell("#| export\nf()\ng()", outputs=outputs)]
    return website.to_page(json.loads(nbformat.writes(nbformat.v4.new_notebook(cells=cells))))


PAGES = {**{p.name: page_of(p) for p in SOURCES}, "reason": website.to_page(report.reason_page("reports/study", "results/a", HOSTILE), prose=True), "hand": made_by_hand()}


def as_read(text):
    "A text of a notebook as Quarto (1.5 to 1.10) reads it: one string is split, and its newlines are gone."
    return "".join(text if isinstance(text, list) else text.splitlines())


def as_markdown(page):
    "The Markdown that Quarto makes of a notebook, in the shape that its documentation gives."
    parts = []
    for cell in page["cells"]:
        text = as_read(cell["source"])
        if cell["cell_type"] != "code": parts.append(text); continue
        body = "\n".join(l for l in text.split("\n") if not l.startswith("#|"))
        parts.append(":::: {.cell}\n" + (f"``````` {{.python .cell-code}}\n{body}\n```````\n" if "#| echo: false" not in text else ""))
        for o in cell["outputs"]:
            data = o.get("data", {})
            if "text/markdown" in data: shown = as_read(data["text/markdown"])
            else: shown = "```````\n" + as_read(o.get("text", data.get("text/plain", ""))) + "\n```````"
            parts.append(f"::: {{.cell-output .cell-output-display}}\n{shown}\n:::")
        parts.append("::::")
    return "\n\n".join(parts)


def pandoc(text, reader):
    import pypandoc
    done = subprocess.run([pypandoc.get_pandoc_path(), "-f", reader, "-t", "json"], input=text, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def visible(doc):
    "What a reader sees of a document but for blocks of code and of printed text, and its blocks of HTML."
    words, blocks = [], []
    def walk(node):
        if isinstance(node, list):
            for n in node: walk(n)
        elif isinstance(node, dict):
            kind, inside = node.get("t"), node.get("c")
            if kind == "Str": words.append(inside)
            elif kind == "Code": words.append(inside[1])
            elif kind == "CodeBlock": pass
            elif kind in ("RawBlock", "RawInline"): blocks.append(tuple(inside))
            elif inside is not None: walk(inside)
    walk(doc["blocks"])
    return words, blocks


@pytest.mark.parametrize("name", PAGES)
def test_every_text_is_a_list_of_lines(name):
    nbformat.validate(PAGES[name])
    for cell in PAGES[name]["cells"]:
        texts = [cell["source"]] + [o["text"] for o in cell.get("outputs", []) if "text" in o]
        texts += [v for o in cell.get("outputs", []) for k, v in o.get("data", {}).items() if k.startswith("text/")]
        for text in texts:
            assert isinstance(text, list) and all(l.endswith("\n") and "\n" not in l[:-1] for l in text[:-1]), text
            assert all(text) and "\n" not in "".join(text[-1:])[:-1], text


def check_shown(name, doc, figures):
    words, blocks = visible(doc)
    text = " ".join(words)
    hostile = name in ("reason", "hand")   # those show such text on purpose
    assert "{=html}" not in text and (hostile or ":::" not in text) and not re.search(r"(title|subtitle|skip_exec|page-layout): ", text), f"{name}: {text[-300:]}"
    assert {kind for kind, _ in blocks} <= {"html"} and sum('class="bz-chart' in b for _, b in blocks) == figures, name


@pytest.mark.parametrize("name", PAGES)
def test_nothing_raw_shows_when_pandoc_reads_a_page_as_quarto_calls_it(name):
    page, options = PAGES[name], yaml.safe_load((BOOK / "nbs/site/_quarto.yml").read_text())["format"]["html"]
    figures = sum(as_read(v).count('<figure class="bz-chart"') for c in page["cells"] for o in c.get("outputs", []) for v in [o.get("data", {}).get("text/markdown", "")])
    doc = pandoc(as_markdown(page), options["from"])
    check_shown(name, doc, figures)
    assert "title" in doc["meta"], f"{name}: its front matter was not read"


@pytest.mark.parametrize("name", ("10b_charts.ipynb", "study.ipynb", "hand"))
def test_pandocs_own_reader_of_notebooks_agrees(name):
    "It leaves the Markdown of outputs to a second reading, knows no front matter, and wants each result numbered."
    page = json.loads(json.dumps(PAGES[name]).replace('"execution_count": null', '"execution_count": 1'))
    words, blocks = visible(pandoc(json.dumps({**page, "cells": page["cells"][1:]}), "ipynb+raw_attribute"))
    assert "{=html}" not in " ".join(words)
    outputs = [v for c in page["cells"] for o in c.get("outputs", []) for v in [o.get("data", {}).get("text/markdown")] if v]
    assert [b.strip() for kind, b in blocks if kind == "markdown"] == ["".join(v).strip() for v in outputs]
    check_shown(name, pandoc("\n\n".join(b for kind, b in blocks if kind == "markdown"), "markdown"), sum("".join(v).count('<figure class="bz-chart"') for v in outputs))


def test_hostile_text_ends_no_block_and_runs_nothing():
    words, blocks = visible(pandoc(as_markdown(PAGES["hand"]), "markdown-tex_math_dollars"))
    markup = "".join(b for _, b in blocks)
    assert "{{<" not in json.dumps([o for c in PAGES["hand"]["cells"] for o in c.get("outputs", [])])
    assert "b</td>" in markup and "{{&lt; env HOME >}}" in markup and markup.count("<figure") == 1 and "&lt;b&gt;*x*" in markup and "<b>" not in markup and "last" in markup
    assert "{{< env HOME >}} <b>*x*</b>" in " ".join(visible(pandoc(as_markdown(PAGES["reason"]), "markdown"))[0])
    spec = json.loads(re.search(r"(?s)<script[^>]*>(.*?)</script>", markup)[1])
    assert spec["data"]["values"][0]["t"] == HOSTILE + "</script>"


@pytest.mark.parametrize("name", ["a*b*", "_x_", "<b>", "# a", "1. a", "{{< env HOME >}}", "a: b", "$x$", "`a`", "a--b", "'q' \"q\"", "модель", "[a](b)", "&amp;", "---", "!a", "a\nb"])
def test_a_models_folder_is_its_title_letter_by_letter(name):
    path = Path("_executed") / website.page_file("study", name)
    note = dict(metadata=dict(papermill=dict(parameters=dict(results=f"results/{name}"))), cells=[dict(cell_type="markdown", metadata={}, source="# S\n\n> s")])
    head = "".join(website.to_page(note, name=website.page_title(path, note))["cells"][0]["source"])
    def text(node):
        if isinstance(node, list): return "".join(map(text, node))
        return {"Str": lambda: node["c"], "Space": lambda: " "}.get(node.get("t"), lambda: text(node["c"]))()
    assert text(pandoc(head, "markdown")["meta"]["title"]["c"]) == " ".join(name.split())
    assert "{{<" not in head and re.fullmatch(r"study-[\w.~-]+\.ipynb", path.name, re.A)


def test_pages_of_two_folders_never_share_a_file():
    names = ["a", "A", "a#b", "a%b", "a?b", "a b", "a  b", "a-b", "a/b", "'a'", '"a"', "модель", "модели", "模型", ".a", "a~b", "", "a" * 80, "a" * 81, "a" * 82, "1000", "true"]
    files = [website.page_file(kind, n) for kind in ("study", "routes") for n in names]
    assert max(Counter(files).values()) == 1 and all(len(f) < 120 and re.fullmatch(r"[\w.~-]+", f, re.A) for f in files)
    assert website.page_file("study", "gemma-3-270m") == "study-gemma-3-270m.ipynb"
    assert website.page_file("study", website.page_file("study", "a b")[6:-6]) != website.page_file("study", "a b")   # a folder that is called like the file of another


@pytest.mark.parametrize("name", sorted(PAGES))
def test_no_shortcode_stands_on_a_page(name):
    "Quarto runs them in code, too: `env HOME` would print the home of whoever builds the site."
    assert "{{<" not in json.dumps(PAGES[name])


# a `quarto` that says how it was called, runs what a project asks for first, as Quarto does, and makes a page
QUARTO = """#!{python}
import json, os, subprocess, sys, yaml
from pathlib import Path
log, folder = Path({log!r}), Path(sys.argv[2]) if len(sys.argv) > 2 else Path.cwd()
calls = log.read_text().splitlines() if log.exists() else []
if len(calls) > 4: sys.exit("endless")
log.write_text("\\n".join(calls + [json.dumps(dict(words=sys.argv[1:], here=os.getcwd(), told=sorted(k for k in os.environ if k.startswith("QUARTO_"))))]))
while not (folder/"_quarto.yml").is_file(): folder = folder.parent
project = yaml.safe_load((folder/"_quarto.yml").read_text())["project"]
if "pre-render" in project:
    done = subprocess.run(project["pre-render"], shell=True, cwd=folder, env=dict(os.environ, QUARTO_PROJECT_DIR=str(folder), QUARTO_PROJECT_OUTPUT_DIR="_site", QUARTO_PROJECT_RENDER_ALL="1", QUARTO_DOCUMENT_PATH="x", QUARTO_PROFILE="mine"))
    sys.exit(done.returncode)
if (folder/"fails").exists():
    sys.stderr.write("\\x1b[33m[1/2] index.ipynb\\x1b[39m\\n\\nERROR: In file index.ipynb\\n(line 3) bad \\x1b[1mindentation\\x1b[22m\\n\\nStack trace:\\n" + "    at f (file:///opt/quarto/bin/quarto.js:1:2)\\n" * 20)
    sys.exit(1)
(folder/"_site").mkdir(exist_ok=True); (folder/"_site"/"index.html").write_text("made by quarto")
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    "Quarto and make on the PATH; a checkout's top with its project file; executed reports."
    programs, top = tmp_path / "programs", tmp_path / "top"
    programs.mkdir(), top.mkdir()
    (top / "_quarto.yml").write_text((BOOK / "_quarto.yml").read_text())
    (top / "_proc" / "_executed").mkdir(parents=True)
    (top / "_proc" / "_executed" / "index.ipynb").write_text(json.dumps(PAGES["hand"]))
    make = f"from bizzaroworld.report import render_site; import sys; sys.argv[1:] == ['site'] or sys.exit(sys.argv); render_site(site={str(top / '_site')!r}, proc={str(top / '_proc')!r})"
    for name, text in (("quarto", QUARTO.format(python=sys.executable, log=str(tmp_path / "log"))), ("make", f'#!/bin/sh\ncd {shlex.quote(str(BOOK))}\nPYTHONPATH={shlex.quote(str(BOOK))} exec {sys.executable} -c {shlex.quote(make)} "$@"\n')):
        (programs / name).write_text(text); (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return top, lambda: [json.loads(l) for l in (tmp_path / "log").read_text().splitlines()]


def test_quarto_in_the_checkout_makes_the_site_and_comes_to_an_end(stand_in):
    top, calls = stand_in
    done = subprocess.run(["quarto", "render"], cwd=top, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    outer, inner = calls()
    assert inner["words"] == ["render", str(top / "_proc"), "--no-execute"]
    assert inner["told"] == ["QUARTO_PROFILE"]   # what is the user's own stays
    assert (top / "_site" / "index.html").read_text() == "made by quarto" and (top / "_site" / website.MARK).is_file()


def test_a_failed_render_says_why(stand_in):
    top, calls = stand_in
    pages = top / "_proc"
    (pages / "_quarto.yml").write_text("project:\n  type: website\n"); (pages / "fails").touch()
    with pytest.raises(RuntimeError) as failed: website.render(pages)
    assert str(failed.value) == "quarto render failed: ERROR: In file index.ipynb (line 3) bad indentation"


def test_pages_without_a_project_are_not_rendered(stand_in):
    "Quarto would climb to the project at the top, whose first step is this render."
    top, calls = stand_in
    with pytest.raises(InputError, match="no _quarto.yml"): website.render(top / "_proc")
    assert not (top.parent / "log").exists()


def test_the_two_projects_fit_together():
    top, pages = (yaml.safe_load((BOOK / p).read_text()) for p in ("_quarto.yml", "nbs/site/_quarto.yml"))
    assert top == {"project": {"type": "website", "output-dir": "_site", "pre-render": "make site", "render": []}}
    assert pages["project"]["output-dir"] == "_site" and "pre-render" not in pages["project"] and pages["format"]["html"]["html-table-processing"] == "none"
    rule = re.search(r"(?m)^site:.*\n((?:\t.*\n)+)", (BOOK / "Makefile").read_text())[1]
    assert "--site _site" in rule and "--render-only" in rule
    assert {"/.quarto/", "**/*.quarto_ipynb"} <= set((BOOK / ".gitignore").read_text().splitlines())   # Quarto would add them


def colours(text, selector):
    "The variables of one rule of our style sheet."
    return dict(re.findall(r"(--[\w-]+):\s*([^;]+);", re.search(re.escape(selector) + r"\s*\{([^}]*)\}", text)[1]))


def ratio(a, b):
    "WCAG's contrast of two colours written as #rrggbb."
    light = lambda c: sum(w * (v / 12.92 if v <= .04045 else ((v + .055) / 1.055) ** 2.4) for w, v in zip((.2126, .7152, .0722), (int(c[i:i + 2], 16) / 255 for i in (1, 3, 5))))
    high, low = sorted((light(a), light(b)), reverse=True)
    return (high + .05) / (low + .05)


def test_our_colours_stand_out_in_both_themes():
    assert round(ratio("#ffffff", "#000000"), 1) == 21 and round(ratio("#777777", "#ffffff"), 2) == 4.48   # WCAG's own examples
    css, scss = ((BOOK / "nbs" / p).read_text() for p in ("styles.css", "site/dark.scss"))
    day, dark = colours(css, ":root"), colours(css, "html.quarto-dark, html.quarto-dark body, body.quarto-dark")
    night, body = day | dark, colours(css, "\nbody")
    code = colours(css, "\n.quarto-dark")
    for theme, words in ((day, {}), (night, code)):
        for name, value in {**{k: theme[k] for k in ("--bz-ink", "--bz-muted", "--bz-accent")}, **words}.items():
            for ground in ("--bz-page", "--bz-soft"): assert ratio(value, theme[ground]) >= 4.5, (name, value, ground)
    for given in (body | {"--bs-body-color": day["--bz-ink"], "--bs-link-color": day["--bz-accent"]}, dark):   # Bootstrap's links read the numbers
        for name in [n for n in given if n.endswith("-rgb")]:
            hexed = given[name.removesuffix("-rgb")]
            hexed = "#" + "".join(2 * c for c in hexed[1:]) if len(hexed) == 4 else hexed
            if hexed.startswith("#"): assert given[name] == ", ".join(str(int(hexed[i:i + 2], 16)) for i in (1, 3, 5)), name
    told = dict(re.findall(r"(?m)^\$([\w-]+):\s*(#\w+);", scss))
    same = {"body-bg": "--bz-page", "body-color": "--bz-ink", "link-color": "--bz-accent", "text-muted": "--bz-muted", "border-color": "--bz-line", "code-bg": "--bz-soft", "code-block-bg": "--bz-soft", "code-color": "--bz-inline", "pre-color": "--bz-code"}
    assert {k: told[k] for k in same} == {k: (night | code)[v] for k, v in same.items()}
    for name in ("--bs-body-color-rgb", "--bs-link-color-rgb", "--bs-body-bg-rgb"): assert name in dark
