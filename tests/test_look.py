"One pair of one's own as one page, by the command; and the site's own script in a browser: search, explorer, sorting, what is folded."
import json, re

import pandas as pd
import pytest

from attack import pages
from bizzaroworld import explorer, pair_pages, report, website
from bizzaroworld.cli import main
from bizzaroworld.results import study_by_hand
from bizzaroworld.schema import by_hand, handed_over
from test_site import LATER, dom, notebook

needs_browser = pytest.mark.skipif(pages.BROWSER is None, reason="no chromium or chrome on the PATH")
MODEL = ["--model", "gemma-3-270m"]


def look(capsys, *words):
    "Exit status, standard output and standard error."
    status = main(["look", *words])
    said = capsys.readouterr()
    return status, said.out, said.err


@pytest.mark.real
def test_look_writes_one_page_and_says_where(tmp_path, capsys):
    out = tmp_path / "mine.html"
    status, said, _ = look(capsys, "The capital of France is", "The capital of Japan is", " Paris", " Tokyo", *MODEL, "--out", str(out), "--json")
    found = json.loads(said.strip().splitlines()[-1])
    assert status == 0 and found["file"] == str(out) and found["ranks"] == [3, 1] and 16 < found["total_swing"] < 18
    page = out.read_text(encoding="utf-8")
    assert page.count('<figure class="bz-chart"') == 5 and not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    if pages.BROWSER:
        seen = pages.Seen(pages.dom(out))
        assert "could not be drawn" not in seen.text and "What it would say next" in seen.text and "Osaka" in seen.text


@pytest.mark.real
def test_what_cannot_be_compared_is_explained_token_by_token(tmp_path, capsys):
    for words, pieces in (
            (("The capital of France is", "The capital of Papua New Guinea is", " Paris", " Port"), ("prompts differ in length", "Papua|New|Guinea", "--align right")),
            (("The capital of France is", "The capital of France is"), ("after both prompts", "give the two answers")),
            (("The capital of France is", "The capital of Japan is", " Paris"), ("1 answer given", "give both, or none")),
            (("", "The capital of Japan is"), ("an empty prompt",)),
            (("The capital of France is", "The capital of Japan is", " Paris", " Paris"), ("both targets are the same",))):
        status, said, error = look(capsys, *words, *MODEL, "--out", str(tmp_path / "x.html"))
        assert status == 2 and not said and error.count("\n") == 1 and all(p in error for p in pieces), error
    assert not list(tmp_path.iterdir())


@pytest.mark.real
def test_without_answers_the_model_s_own_are_taken_and_markup_is_text(tmp_path, capsys):
    out = tmp_path / "x.html"
    status, _, error = look(capsys, "The <script>x</script> city of Paris lies in the country of", "The <script>x</script> city of Tokyo lies in the country of", *MODEL, "--out", str(out))
    assert status == 0, error
    assert "<script>x" not in out.read_text(encoding="utf-8") and "France" in out.read_text(encoding="utf-8")


# ------------------------------------------------- the site's own script

@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "A small site: a page with the explorer, one that folds, the pages of pairs."
    folder = tmp_path_factory.mktemp("site")
    executed = folder / "proc/_executed"; executed.mkdir(parents=True)
    study = study_by_hand(by_hand(handed_over(), categories="aabb"))
    one = pair_pages.Paired("by-hand", study)
    import nbformat
    from bizzaroworld import charts, theme
    theme.use()
    class Shown(str):
        def _repr_mimebundle_(self, include, exclude): return {"text/html": str(self)}
    nbformat.write(notebook("Explorer", *(Shown(p.data) for p in explorer.explorer([explorer.explored(study, one.files)] * 2).parts)), executed / "explorer.ipynb")
    folded = notebook("Index", charts.handover(study.patches))
    folded.cells.insert(0, nbformat.v4.new_raw_cell("---\nfold: true\n---"))
    folded.cells += [nbformat.v4.new_markdown_cell("## A section {#here}\n\nText.\n\n### Folded\n\nA zebra."), *notebook("x", charts.category_map(study.patches)).cells[1:]]
    nbformat.write(folded, executed / "index.ipynb")
    for name in ("compare", "battery", "performance", "claims"): nbformat.write(notebook(name), executed / f"{name}.ipynb")
    entries = [pair_pages.search_entry(one, idx, f"{name}.html") for idx, name in one.files.items()]
    (executed / "pairs").mkdir(); (executed / "pairs/index-x.json").write_text(json.dumps(entries))
    for idx, name in one.files.items(): (executed / f"{name}.md").write_text(pair_pages.pair_page(one, idx))
    report.render_site(site=folder / "site", proc=folder / "proc")
    return folder / "site", one


@needs_browser
def test_the_search_wants_every_word_and_knows_the_pairs(site):
    folder, one = site
    def found(words):
        script = "const i = document.querySelector('.smalldocs-search input'); i.focus(); i.value = %s; i.dispatchEvent(new Event('input'));" % json.dumps(words)
        return re.findall(r'<a class="search-result" href="(?:\./)?([^"#]*)', dom(folder / "index.html", LATER % script))
    row = one.study.triage.iloc[0]
    assert found(row.clean_prompt)[0] == f"{one.files[row.battery_idx]}.html"
    assert found("zebra") == ["index.html"] and found("zebra unheard-of") == []


@needs_browser
def test_the_explorer_keeps_its_choice_in_the_address(site):
    page = site[0] / "explorer.html"
    script = """const s = document.querySelector('select[data-choice="site"]'); s.value = 'mlp_out'; s.dispatchEvent(new Event('change'));
        setTimeout(() => document.title = location.hash, 1500);"""
    shown = dom(page, LATER % script)
    address = re.search(r"<title>(#[^<]*)</title>", shown)[1]
    assert "site=mlp_out" in address and "direction=noising" in address and "pair=mean" in address
    assert 'class="bz-map' in shown and "<svg" in shown.split('class="bz-map')[1]
    opened = dom(page, "history.replaceState(null, '', '#model=by hand&pair=1&site=attn_out&direction=denoising');")
    assert "everything about this pair" in opened


@needs_browser
def test_what_is_folded_is_drawn_when_it_is_opened_and_an_address_opens_it(site):
    page = site[0] / "index.html"
    count = lambda shown: len(re.findall(r"<svg[^>]*class=\"marks\"", shown))
    assert count(dom(page)) == 1
    assert count(dom(page, LATER % "document.querySelectorAll('main details').forEach(d => { d.open = true; });")) == 2
    named = dom(page, LATER % "location.hash = '#more-folded'; setTimeout(() => {}, 500);")
    assert re.search(r'<details class="bz-more" id="more-folded" open', named)
    assert 'href="#here"' in named and 'class="bz-skip"' in named


@needs_browser
def test_a_table_of_pairs_sorts_by_its_heads(tmp_path, site):
    rows = "".join(f"<tr><td>{n}</td></tr>" for n in (10, 9, 100))
    body = f'<input class="bz-filter" data-table="t" aria-label="x"><table id="t"><thead><tr><th>#</th></tr></thead><tbody>{rows}</tbody></table>'
    page = site[0] / "sorted.html"
    page.write_text(f'<html><body>{body}<script src="assets/site.js"></script></body></html>')
    click = "document.querySelector('.bz-sort').click();"
    cells = lambda script: re.findall(r"<td>(\d+)</td>", dom(page, LATER % script))
    assert cells(click) == ["9", "10", "100"] and cells(click * 2) == ["100", "10", "9"]
