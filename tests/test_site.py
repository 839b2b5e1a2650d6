"The built site in a real browser with the network off: every picture is drawn, and nothing is fetched from elsewhere."
import json, re, shutil, subprocess
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from bizzaroworld import charts, report

BROWSER = next((b for b in map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome")) if b), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on the PATH")


def patches(layers=4, pairs=4):
    "A table by hand: the entity loses its effect layer by layer, and the final token gains it."
    rows = []
    for i in range(pairs):
        for direction in ("noising", "denoising"):
            for layer in range(layers):
                gone = layer / (layers - 1)
                for experiment, position, effect in (("1", "final", gone), ("3", "entity", 1 - gone)):
                    rows.append(dict(model="by hand", battery_idx=i, category="ab"[i % 2], direction=direction, experiment=experiment, site="resid_pre", layer=layer,
                        head=None, position=position, window=1, control=None, ld_clean=5.0, ld_corrupt=-5.0, delta=-10 * effect, effect=effect))
    return pd.DataFrame(rows)


def notebook(title, *shown):
    "An executed notebook whose cells show the given things."
    cells = [nbformat.v4.new_markdown_cell(f"# {title}\n\n> by hand")]
    for thing in shown:
        bundle = thing._repr_mimebundle_(None, None)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        cells.append(nbformat.v4.new_code_cell("#| export\nshow()", outputs=[nbformat.v4.new_output("display_data", data=data)], metadata=dict(papermill=dict(duration=1.0))))
    return nbformat.v4.new_notebook(cells=cells)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "A small site: hand-made reports beside the real chapters."
    folder = tmp_path_factory.mktemp("site")
    executed = folder / "proc" / "_executed"
    executed.mkdir(parents=True)
    table, three = patches(), [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]
    nbformat.write(notebook("Index", charts.handover(table)), executed / "index.ipynb")
    nbformat.write(notebook("Study", charts.handover(table), charts.handover(table), charts.category_map(table), charts.damage_scatter(table, against="total_swing"),
        charts.attention_view(["<bos>", "▁France", "</script>"], [three], ["L1 H0"]), charts.token_effects(["<bos>", "▁France", "▁is"], [0, 1, 0.1])), executed / "study-x.ipynb")
    for name in ("compare", "battery"):
        nbformat.write(notebook(name), executed / f"{name}.ipynb")
    report.render_site(site=folder / "site", proc=folder / "proc")
    return folder / "site"


def dom(page):
    "The page's elements after its scripts have run, with every host name unknown."
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1280,900",
        "--allow-file-access-from-files", "--virtual-time-budget=15000", "--dump-dom", page.resolve().as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120).stdout


def figures(text):
    "The figures of a page, each as its own piece of text."
    return re.findall(r'(?s)<figure class="bz-chart".*?</figure>', text)


def test_every_page_is_there(site):
    pages = {p.stem for p in site.glob("*.html")}
    assert {"index", "study-x", "compare", "battery", "method", "00_facts", "10_charts", "11_report"} <= pages


def test_nothing_is_fetched_from_elsewhere(site):
    for page in site.rglob("*.html"):
        fetched = re.findall(r"""(?is)<(?:script|img|iframe|source)\b[^>]*\bsrc\s*=\s*["']?((?:https?:)?//[^\s"'>]+)|<link\b[^>]*\bhref\s*=\s*["']?((?:https?:)?//[^\s"'>]+)""", page.read_text())
        assert not fetched, f"{page.name}: {fetched}"
    for style in site.rglob("*.css"):
        assert not re.search(r"""(?i)@import\s+(?:url\()?["']?(?:https?:)?//|url\(["']?(?:https?:)?//""", style.read_text()), style.name


def test_no_directive_and_no_record_leaks(site):
    text = (site / "study-x.html").read_text()
    assert "#| export" not in text and "papermill" not in text and "{.cell" not in text


def test_one_copy_of_each_drawing_program(site):
    assert sorted(p.name for p in site.rglob("*.js") if p.stat().st_size > 500_000) == ["circuitsvis.js", "vega.js"]


def test_ids_come_from_the_content(site):
    ids = re.findall(r'<figure class="bz-chart" id="([^"]+)"', (site / "study-x.html").read_text())
    again = re.findall(r'<figure class="bz-chart" id="([^"]+)"', (site / "index.html").read_text())
    assert len(ids) == 4 and ids[0] == again[0] and len(set(ids)) == 4


@needs_browser
def test_every_picture_is_drawn_without_a_network(site):
    drawn = 0
    for page in sorted(site.glob("*.html")):
        for figure in figures(dom(page)) if "bz-chart" in page.read_text() else []:
            title = re.search(r"<strong>(.*?)</strong>", figure)[1]
            assert "<svg" in figure or "<canvas" in figure, f"{page.name}: {title!r} is blank: {figure[-300:]}"
            assert "could not be drawn" not in figure and "NaN" not in re.sub(r"(?s)<script.*?</script>", "", figure), f"{page.name}: {title!r}"
            drawn += 1
    assert drawn >= 5


# circuitsvis writes coloured tokens as text and paints attention on a canvas, which a dump of the elements shows as an empty tag:
# so the page itself counts the colours that it painted
COUNT = """<script>addEventListener("load", () => setTimeout(() => document.querySelectorAll(".bz-tokens canvas").forEach(c => {
  const p = new Uint32Array(c.getContext("2d").getImageData(0, 0, c.width, c.height).data.buffer);
  c.setAttribute("data-colours", new Set(p).size);
}), 3000))</script>"""


@needs_browser
def test_tokens_and_attention_are_drawn(site):
    page = site / "counted.html"
    page.write_text((site / "study-x.html").read_text().replace("</body>", COUNT + "</body>"))
    text = dom(page)
    page.unlink()
    attention, tokens = re.findall(r'(?s)<div class="bz-tokens".*?</script>(.*?)(?=<div class="bz-tokens"|</main>)', text)
    assert re.sub(r"<[^>]+>", "", tokens).strip().startswith("⟨bos⟩&nbsp;France&nbsp;is")
    assert len(set(re.findall(r"background-color: (rgb[^;]+);", tokens))) == 3     # effects 0, 1 and 0.1
    painted = [int(n) for n in re.findall(r'data-colours="(\d+)"', attention)]
    assert "L1 H0" in attention and len(painted) == 2 and min(painted) >= 4, painted  # small and large; the weights 1, .5, .3, .2, 0


@needs_browser
def test_this_test_sees_a_blank_page(site, tmp_path):
    shutil.copytree(site, tmp_path / "broken")
    (tmp_path / "broken" / "assets" / "vega.js").unlink()
    found = figures(dom(tmp_path / "broken" / "index.html"))
    assert found and not any("<svg" in f for f in found)


@pytest.mark.parametrize("chapter", sorted(p.name for p in (report.book() / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts))
def test_no_kept_output_fetches_or_tells(chapter):
    path = next(p for p in (report.book() / "nbs").rglob(chapter))
    for cell in json.loads(path.read_text())["cells"]:
        kept = json.dumps(cell.get("outputs", []))
        assert "cdn." not in kept and "unpkg" not in kept, f"{chapter}: an output loads a script from elsewhere"
        assert not re.search(r"/home/\w|/root/|/tmp/", kept), f"{chapter}: an output holds a path of a machine"
