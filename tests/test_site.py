"The built site in a real browser with the network off: every picture is drawn, and nothing is fetched from elsewhere."
import html, json, re, shutil, subprocess, zlib
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest

import load
from bizzaroworld import charts, explorer, report, theme, website
from bizzaroworld.results import study_by_hand
from bizzaroworld.schema import by_hand

BROWSER = next((b for b in map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome")) if b), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on the PATH")
theme.use()   # as the notebooks of the report do


def patches(layers=4, pairs=4):
    "A table by hand: the entity loses its effect layer by layer, and the final token gains it."
    arrived = lambda row: row["layer"] / (layers - 1)
    return by_hand(lambda row: arrived(row) if row["position"] == "final" else 1 - arrived(row), experiments=("1", "3"), categories="ab" * (pairs // 2),
        n_layers=layers)


def notebook(title, *shown):
    "An executed notebook whose cells show the given things."
    cells = [nbformat.v4.new_markdown_cell(f"# {title}\n\n> by hand")]
    for thing in shown:
        bundle = thing._repr_mimebundle_(None, None)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        cells.append(nbformat.v4.new_code_cell("#| export\nshow()", outputs=[nbformat.v4.new_output("display_data", data=data)], metadata=dict(papermill=dict(duration=1.0))))
    return nbformat.v4.new_notebook(cells=cells)


class Shown(str):
    "HTML that a cell shows."
    def _repr_mimebundle_(self, include, exclude): return {"text/html": str(self), "text/plain": "…"}


ODD = "a#b%20?c *d* _e_ <b>f<b> 'g' \"h\" {{< env HOME >}} &amp; модель"   # what a folder may be called


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "A small site: hand-made reports beside the real chapters."
    folder = tmp_path_factory.mktemp("site")
    executed = folder / "proc" / "_executed"
    executed.mkdir(parents=True)
    table, three = patches(), [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]
    nbformat.write(notebook("Index", charts.handover(table)), executed / "index.ipynb")
    known = table.assign(page="method.html")   # in the place of a pair's own page
    nbformat.write(notebook("Study", charts.handover(known), charts.handover(known), charts.category_map(known), charts.damage_scatter(known, against="total_swing"),
        charts.attention_view(["<bos>", "▁France", "</script>"], [three, three[::-1]], ["L1 H0", "L1 H1"]), charts.token_effects(["<bos>", "▁France", "▁is"], [0, 1, 0.1])), executed / "study-x.ipynb")
    small = study_by_hand(by_hand(.3, categories="aabb"))   # a part of the way
    nbformat.write(notebook("Explorer", Shown(explorer.explorer([explorer.explored(small)]).parts[0].data)), executed / "explorer.ipynb")
    for name in ("compare", "battery", "performance", "claims"):
        nbformat.write(notebook(name), executed / f"{name}.ipynb")
    odd = notebook("Study")
    odd.cells.append(nbformat.v4.new_markdown_cell("A zebra."))
    odd.metadata["papermill"] = dict(parameters=dict(results=f"results/{ODD}"))
    nbformat.write(odd, executed / website.page_file("study", ODD))
    report.render_site(site=folder / "site", proc=folder / "proc")
    return folder / "site"


def dom(page, script=""):
    "The page's elements after its scripts, and one more, have run: opened from the disk, with every host name unknown."
    opened = page.with_name(f"opened-{page.name}") if script else page
    if script: opened.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1280,900",
        "--virtual-time-budget=15000", "--dump-dom", opened.resolve().as_uri()]
    try: return subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    finally:
        if script: opened.unlink()


LATER = "addEventListener('load', () => setTimeout(() => { %s }, 500))"


def figures(text):
    "The figures of a page, each as its own piece of text."
    return re.findall(r'(?s)<figure class="[^"]*\bbz-chart\b.*?</figure>', text)


def test_every_page_is_there(site):
    pages = {p.stem for p in site.glob("*.html")}
    assert {"index", "study-x", "compare", "battery", "method", "tutorial", "00_facts", "10b_charts", "11_report"} <= pages


def test_nothing_is_fetched_from_elsewhere(site):
    for page in site.rglob("*.html"):
        fetched = re.findall(r"""(?is)<(?:script|img|iframe|source)\b[^>]*\bsrc\s*=\s*["']?((?:https?:)?//[^\s"'>]+)|<link\b[^>]*\bhref\s*=\s*["']?((?:https?:)?//[^\s"'>]+)""", page.read_text())
        assert not fetched, f"{page.name}: {fetched}"
    for style in site.rglob("*.css"):
        assert not re.search(r"""(?i)@import\s+(?:url\()?["']?(?:https?:)?//|url\(["']?(?:https?:)?//""", style.read_text()), style.name


def test_every_link_of_a_page_leads_somewhere(site):
    "Names of files are quoted once: a folder of results may be called anything."
    for page in site.glob("*.html"):
        for href in re.findall(r"""<a\b[^>]*\bhref="([^"#?]+)[^"]*\"""", page.read_text()):
            if not re.match(r"[a-z]+:|//", href): assert (site / unquote(html.unescape(href))).exists(), f"{page.name}: {href}"


@needs_browser
def test_the_name_of_a_folder_reads_letter_by_letter(site):
    page = Path(website.page_file("study", ODD)).with_suffix(".html").name
    typed = "const box = document.querySelector('.smalldocs-search input'); box.value = 'zebra'; box.dispatchEvent(new Event('input')); setTimeout(() => { document.body.dataset.seen = JSON.stringify({title: document.title, head: document.querySelector('h1').textContent, menu: [...document.querySelectorAll('#quarto-sidebar a')].map(a => a.textContent.trim()), found: [...document.querySelectorAll('.search-result-title')].map(a => a.textContent)}); }, 1000);"
    seen = json.loads(html.unescape(re.search(r'data-seen="([^"]+)"', dom(site / page, LATER % typed))[1]))
    assert seen["head"].strip() == ODD and ODD in seen["title"] and ODD in seen["menu"] and ODD in seen["found"], seen


@needs_browser
def test_a_term_says_its_meaning_to_keys_and_to_a_finger(site):
    "Where it has the focus its meaning is there to be read; the first touch shows it, the second goes on; Escape puts it away."
    seen = """const t = document.querySelector('a.bz-term'), said = () => getComputedStyle(t, '::after').content, out = [said()];
      t.focus(); out.push(said()); t.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape', bubbles: true})); out.push(said());
      const real = matchMedia; window.matchMedia = q => q.includes('hover') ? {matches: true} : real(q); const touch = new MouseEvent('click', {bubbles: true, cancelable: true}); t.dispatchEvent(touch); out.push(touch.defaultPrevented, said());
      const again = new MouseEvent('click', {bubbles: true, cancelable: true}); addEventListener('click', e => { out.push(e.defaultPrevented); e.preventDefault(); document.body.dataset.seen = JSON.stringify([t.textContent, t.getAttribute('href'), ...out]); }, {once: true}); t.dispatchEvent(again);"""
    term, href, before, focus, escaped, held, touched, second = json.loads(html.unescape(re.search(r'data-seen="([^"]+)"', dom(site / "method.html", LATER % seen))[1]))
    assert before == escaped == "none" and len(focus) > 30 and touched == focus and held and not second, (before, focus, escaped, held, touched, second)
    assert f'id="{href.split("#")[1]}"' in (site / "glossary.html").read_text(), (term, href)


def test_each_term_of_a_page_is_explained_once_and_in_prose_of_ours(site):
    for page in site.glob("*.html"):
        found = re.findall(r'<a class="bz-term" href="glossary.html#([\w-]+)"', page.read_text())
        assert len(found) == len(set(found)), page.name
    assert len(re.findall('class="bz-term"', (site / "method.html").read_text())) > 10
    assert len(re.findall("<dt ", (site / "glossary.html").read_text())) > 30 and "bz-term" not in (site / "study-x.html").read_text()


def test_no_directive_and_no_record_leaks(site):
    text = (site / "study-x.html").read_text()
    assert "#| export" not in text and "papermill" not in text and "{.cell" not in text


def test_one_copy_of_each_drawing_program(site):
    assert sorted(p.name for p in site.rglob("*.js") if p.stat().st_size > 500_000 and p.name != "search.json.js") == ["circuitsvis.js", "vega.js"]


def test_ids_come_from_the_content(site):
    ids = re.findall(r'<figure class="[^"]*\bbz-chart\b[^"]*" id="([^"]+)"', (site / "study-x.html").read_text())
    again = re.findall(r'<figure class="[^"]*\bbz-chart\b[^"]*" id="([^"]+)"', (site / "index.html").read_text())
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


CLICK = "const mark = document.querySelector('%s'); if (!mark) { document.title = 'no mark'; return; } mark.dispatchEvent(new MouseEvent('click', {bubbles: true, clientX: 9, clientY: 9, view: window}));"


@needs_browser
@pytest.mark.parametrize("mark, leads", (("#largest-damage-against-totalswing .mark-symbol path", True), ("#the-answer-leaves-the-entity-and-arrives-at-the .mark-line path", True),
    ("#where-each-categorys-answer-is-carried-layer-by-layer .mark-rect path", False)))
def test_a_click_on_a_pair_opens_its_page(site, mark, leads):
    "A dot and a thin line; a cell of a mean leads nowhere."
    seen = dom(site / "study-x.html", LATER % (CLICK % mark))
    title = re.search(r"<title>(.*?)</title>", seen)[1].strip()
    assert title.startswith("Method" if leads else "x"), title


EXPLORED = """location.hash = '%s'; addEventListener('load', () => setTimeout(() => { const m = k => document.querySelector('select[data-choice="' + k + '"]'); %s; setTimeout(() => {
  const rows = [...document.querySelectorAll('.bz-result tbody tr')].map(r => [...r.cells].map(c => c.textContent));
  document.body.dataset.seen = JSON.stringify({hash: location.hash, rows: rows, maps: [...document.querySelectorAll('.bz-map')].map(x => [x.getAttribute('aria-label'), x.querySelectorAll('.mark-rect.role-mark path').length, x.offsetWidth > 0])}); }, 800); }, 800))"""


@needs_browser
def test_the_explorer_keeps_two_sentences_and_what_is_read_in_its_address(site):
    "One choice in the address, one by a menu, one by a click on a cell; the numbers between the sentences are those of the study."
    def seen(address, act=""): return json.loads(html.unescape(re.search(r'data-seen="([^"]+)"', dom(site / "explorer.html", EXPLORED % (address, act)))[1]))
    one = seen("pair=1&metric=p", "")
    assert one["maps"][0][0].endswith("noising, probability of the clean answer") and one["maps"][0][1:] == [8, True] and not one["maps"][1][2]   # four layers at two tokens
    both = seen("pair=1&view=both&metric=ld&site=resid_pre&token=3&layer=1", "m('layer').value = '0'; m('layer').dispatchEvent(new Event('change'))")
    assert "view=both" in both["hash"] and "metric=ld" in both["hash"] and both["hash"].endswith("layer=0") and [x[2] for x in both["maps"]] == [True, True]
    small = study_by_hand(by_hand(.3, categories="aabb"))   # a part of the way
    row, at = small.triage.iloc[1], small.patches.query("experiment == '2B' and site == 'resid_pre' and layer == 0 and battery_idx == 1").set_index("direction")
    written = lambda v: f"{v:.1f}".replace("-", "\u2212")
    assert [r[1] for r in both["rows"]] == [written(v) for v in (row.ld_clean, at.ld_patched["noising"], at.ld_patched["denoising"], row.ld_corrupt)], both["rows"]
    click = seen("pair=1", "const c = document.querySelector('.bz-map .mark-rect.role-mark path'), b = c.getBoundingClientRect(); for (const e of ['pointerdown', 'mousedown', 'pointerup', 'mouseup', 'click']) c.dispatchEvent(new MouseEvent(e, {bubbles: true, view: window, clientX: b.x + 3, clientY: b.y + 3}))")
    assert "view=both" in click["hash"] and "token=" in click["hash"] and len(click["rows"]) == 4


# circuitsvis writes coloured tokens as text and paints attention on a canvas, which a dump of the elements shows as an empty tag:
# so the page itself counts the colours that it painted
COUNT = """addEventListener("load", () => setTimeout(() => document.querySelectorAll(".bz-tokens canvas").forEach(c => {
  const p = new Uint32Array(c.getContext("2d").getImageData(0, 0, c.width, c.height).data.buffer);
  c.setAttribute("data-colours", new Set(p).size);
}), 3000))"""


@needs_browser
def test_tokens_and_attention_are_drawn(site):
    text = dom(site / "study-x.html", COUNT)
    attention, tokens = re.findall(r'(?s)<div class="[^"]*\bbz-tokens\b.*?</script>(.*?)(?=<div class="[^"]*\bbz-tokens\b|</main>)', text)
    assert re.sub(r"<[^>]+>", "", tokens).strip().startswith("⟨bos⟩&nbsp;France&nbsp;is")
    assert len(set(re.findall(r"background-color: (rgb[^;]+);", tokens))) == 3     # effects 0, 1 and 0.1
    painted = [int(n) for n in re.findall(r'data-colours="(\d+)"', attention)]
    assert "L1 H0" in attention and len(painted) == 3 and min(painted) >= 4, painted  # two small and a large; the weights 1, .5, .3, .2, 0


@needs_browser
def test_a_head_is_chosen_by_keys(site):
    "The second small picture is reached and pressed; the large one is then of that head."
    act = """const tiles = () => [...document.querySelectorAll('.bz-tokens [role=button]')], large = () => [...document.querySelectorAll('.bz-tokens h3, .bz-tokens h2')].map(h => h.textContent).join('|');
      const out = [tiles().length, large()]; tiles()[1].focus(); out.push(document.activeElement === tiles()[1]); document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true}));
      setTimeout(() => { out.push(large(), tiles()[1].getAttribute('aria-pressed')); document.body.dataset.seen = JSON.stringify(out); }, 600);"""
    count, before, focused, after, pressed = json.loads(html.unescape(re.search(r'data-seen="([^"]+)"', dom(site / "study-x.html", LATER % act))[1]))
    assert (count, focused, pressed) == (2, True, "true") and "L1 H1" in after and "L1 H1" not in before, (before, after)


@needs_browser
def test_pages_open_soon(site):
    "A generous bound, for machines that do much else; `python tests/load.py SITE` prints the times that count."
    for page in ("index", "study-x"):
        used, drawn = load.load_times(site / f"{page}.html")[1:]
        print(f"{page}: can be used after {used:.0f} ms, drawn after {drawn:.0f} ms")
        assert 0 < used <= drawn < 15_000


@needs_browser
def test_search_finds_a_page_from_the_disk(site):
    typed = LATER % "const box = document.querySelector('.smalldocs-search input'); box.value = '%s'; box.dispatchEvent(new Event('input'));"
    found = re.findall(r'<a class="search-result" href="([^"]+)"', dom(site / "method.html", typed % "handover"))
    assert any(f.split("#")[0].removeprefix("./") == "10b_charts.html" for f in found), found
    assert "No results" in dom(site / "method.html", typed % "zzzzqqqq")


@needs_browser
def test_the_dark_switch_works_at_once(site):
    "Each time that it is clicked, and the ground of the page with it."
    seen = "out.push([document.documentElement.classList.contains('quarto-dark'), getComputedStyle(document.body).backgroundColor]);"
    clicks = "const out = []; const look = () => { %s }; look(); document.querySelector('.quarto-color-scheme-toggle').click(); setTimeout(() => { look(); document.querySelector('.quarto-color-scheme-toggle').click(); setTimeout(() => { look(); document.body.dataset.seen = JSON.stringify(out); }, 300); }, 300);" % seen
    text = dom(site / "method.html", LATER % clicks)
    light, dark, again = json.loads(re.search(r'data-seen="([^"]+)"', text)[1].replace("&quot;", '"'))
    assert light == again == [False, "rgb(255, 255, 255)"] and dark == [True, "rgb(21, 23, 28)"], (light, dark, again)


# every text on a page against the ground that is under it, by WCAG's formula; pictures have a ground of their own
CONTRAST = """
const parts = c => { const n = (c.match(/[\\d.]+(e-?\\d+)?/g) || [0, 0, 0, 0]).map(Number), s = c.startsWith('color(') ? 255 : 1; return [n[0] * s, n[1] * s, n[2] * s, n.length > 3 ? n[3] : 1]; };
const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
const light = c => { const [r, g, b] = c.slice(0, 3).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
const ground = e => e ? over(parts(getComputedStyle(e).backgroundColor), ground(e.parentElement)) : [255, 255, 255, 1];
const contrast = () => {
  document.head.insertAdjacentHTML('beforeend', '<style>* { transition: none !important }</style>');
  const found = {}, walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n; (n = walk.nextNode());) {
    const e = n.parentElement;
    if (!n.textContent.trim() || e.closest('svg, canvas, script, style, .bz-tokens, .quarto-color-scheme-toggle') || !e.getClientRects().length) continue;
    let unseen = false; for (let p = e; p; p = p.parentElement) unseen = unseen || getComputedStyle(p).opacity === '0' || getComputedStyle(p).visibility === 'hidden';
    if (unseen) continue;
    const under = ground(e), a = light(over(parts(getComputedStyle(e).color), under)), b = light(under);
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05), where = e.tagName + '.' + e.className + ' in ' + e.parentElement.tagName + '.' + e.parentElement.className;
    if (ratio < 4.5) found[where] = ratio.toFixed(2) + ' ' + n.textContent.trim().slice(0, 20);
    document.body.dataset.texts = 1 + Number(document.body.dataset.texts || 0);
  }
  document.body.dataset.faint = JSON.stringify(found);
};
"""


def faint(text):
    "What a page measured of itself: how many texts, and the ones that are below 4.5 to 1."
    return int(re.search(r'data-texts="(\d+)"', text)[1]), json.loads(html.unescape(re.search(r'data-faint="([^"]*)"', text)[1]))


SWITCH = "document.querySelector('.quarto-color-scheme-toggle').click(); "


@needs_browser
@pytest.mark.parametrize("steps, dark", (("", False), (SWITCH, True), (SWITCH + SWITCH, False), (SWITCH + "dispatchEvent(new Event('beforeprint')); ", False),
    (SWITCH + "dispatchEvent(new Event('beforeprint')); dispatchEvent(new Event('afterprint')); ", True)))
def test_charts_turn_with_the_page_and_paper_is_white(site, steps, dark):
    found = figures(dom(site / "study-x.html", LATER % steps))
    labels = theme.LOOK["axis"]["labelColor"]
    drawn = [[colour in re.sub(r"(?s)<script.*?</script>", "", f) for colour in (labels, theme.DARK[labels])] for f in found]
    assert len(drawn) > 3 and all(d == [not dark, dark] for d in drawn), drawn


def inks(page, script):
    "Colours `(red, green, blue)` with which a page fills areas on paper, as its PDF says."
    opened, paper = page.with_name(f"printed-{page.name}"), page.with_suffix(".pdf")
    opened.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    subprocess.run([BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=15000",
        f"--print-to-pdf={paper}", opened.resolve().as_uri()], capture_output=True, timeout=120)
    data = paper.read_bytes(); opened.unlink(); paper.unlink()
    streams = b"\n".join(zlib.decompressobj().decompress(s) for s in re.findall(rb"(?s)FlateDecode.*?stream\r?\n(.*?)endstream", data))
    return {tuple(round(255 * float(v)) for v in found) for found in re.findall(rb"([\d.]+) ([\d.]+) ([\d.]+) rg\b", streams)}


@needs_browser
@pytest.mark.parametrize("page", ("study-x", "method"))
def test_paper_is_white_when_the_page_is_dark(site, page):
    grounds = {tuple(int(c[i:i + 2], 16) for i in (1, 3, 5)) for c in ("#15171c", "#1d2027", theme.DARK["#ffffff"])}
    found = inks(site / f"{page}.html", LATER % SWITCH)
    assert found and not found & grounds, found


@needs_browser
@pytest.mark.parametrize("theme", ("light", "dark"))
@pytest.mark.parametrize("page", ("index", "study-x", "11_report", "method"))
def test_no_text_is_faint(site, page, theme):
    switch = "document.querySelector('.quarto-color-scheme-toggle').click(); document.querySelector('.smalldocs-search input').value = ''; "
    texts, found = faint(dom(site / f"{page}.html", CONTRAST + LATER % (switch * (theme == "dark") + "setTimeout(contrast, 400)")))
    assert texts > 30 and not found, found


# Quarto's markup, and what its light theme says where a dark one says nothing else (measured with Quarto 1.7)
TOKENS = "al an at bn bu cf ch cn co cv do dt dv er ex fl fu im in kw op ot pp sc ss st va vs wa".split()
QUARTO = """<!DOCTYPE html><html><head><meta charset="utf-8"><link rel="stylesheet" href="site_libs/bootstrap.css"><style>
  body { color: #dfe1e8; background-color: #15171c; } pre code { color: #dfe1e8; } .text-muted { color: #a3a9b8 !important; }
  div.sourceCode, div.sourceCode pre.sourceCode, .cell-output pre { background-color: rgba(233, 236, 239, .65); }
  p code:not(.sourceCode), li code:not(.sourceCode), td code:not(.sourceCode) { background-color: #f6f6f6; color: #7d12ba; }
  code.sourceCode > span, div.sourceCode, pre > code.sourceCode > span { color: #003B4F; } %s
  </style><link rel="stylesheet" href="assets/styles.css"></head><body class="nav-sidebar floating quarto-dark"><main class="content">
  <header id="title-block-header"><h1 class="title">Title</h1><p class="subtitle lead">Subtitle</p></header>
  <p>Prose with a <a href="#">link</a>, <code>code</code> and <a href="#"><code>both</code></a>.</p><p class="text-muted">muted</p><ul><li><code>code</code></li></ul>
  <div class="cell"><div class="sourceCode cell-code"><pre class="sourceCode python"><code class="sourceCode python"><span id="cb1-1"><a href="#cb1-1"></a>plain %s</span></code></pre></div>
  <div class="cell-output cell-output-stdout"><pre><code>printed</code></pre></div><div class="cell-output cell-output-display"><pre><code>shown</code></pre></div></div>
  <div class="bz-cards"><div class="bz-card"><b>3</b><span>pairs</span></div></div><p><span class="bz-verdict good">g</span><span class="bz-verdict bad">b</span><span class="bz-verdict warn">w</span></p>
  <p><span class="bz-token">a</span><span class="bz-token entity">b</span><span class="bz-token target">c</span><span class="bz-count">3 shown</span></p>
  <div class="bz-table"><table class="table"><thead><tr><th>head</th></tr></thead><tbody><tr><th>row</th><td>cell <code>code</code></td></tr></tbody></table></div>
  <figure class="bz-chart figure"><figcaption><strong>Chart</strong> caption</figcaption></figure></main></body></html>"""


@needs_browser
@pytest.mark.parametrize("theme", ("light", "dark"))
def test_no_text_is_faint_as_quarto_marks_it(tmp_path, theme):
    import smalldocs
    (tmp_path / "assets").mkdir(), (tmp_path / "site_libs").mkdir()
    shutil.copy(website.book() / "styles.css", tmp_path / "assets")
    shutil.copy(next(Path(smalldocs.__file__).parent.rglob("bootstrap.min.css")), tmp_path / "site_libs" / "bootstrap.css")
    page = QUARTO % (" ".join(f"code span.{t} {{ color: #00769E; }}" for t in TOKENS), " ".join(f'<span class="{t}">{t}</span>' for t in TOKENS))
    if theme == "light": page = page.replace("quarto-dark", "quarto-light").replace("#dfe1e8", "#1f2430").replace("#15171c", "#fff").replace("#a3a9b8", "#5a6070").replace("#00769E", "#003B4F").replace(".65", ".3")
    (tmp_path / "page.html").write_text(page)
    texts, found = faint(dom(tmp_path / "page.html", CONTRAST + LATER % "contrast()"))
    assert texts > 55 and not found, found


@needs_browser
def test_this_test_sees_a_blank_page(site, tmp_path):
    shutil.copytree(site, tmp_path / "broken")
    (tmp_path / "broken" / "assets" / "vega.js").unlink()
    found = figures(dom(tmp_path / "broken" / "index.html"))
    assert found and not any("<svg" in f for f in found)


@pytest.mark.parametrize("chapter", sorted(p.name for p in website.book().rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts))
def test_no_kept_output_fetches_or_tells(chapter):
    path = next(p for p in website.book().rglob(chapter))
    for cell in json.loads(path.read_text())["cells"]:
        kept = json.dumps(cell.get("outputs", []))
        assert "cdn." not in kept and "unpkg" not in kept, f"{chapter}: an output loads a script from elsewhere"
        assert not re.search(r"/home/\w|/root/|/tmp/|site-packages", kept), f"{chapter}: an output holds a path of a machine"
