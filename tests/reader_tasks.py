"""What a reader wants of the built site, done by a hand in a real browser, from the disk and with no network: `python tests/reader_tasks.py [SITE] [--keep FOLDER]`.

Each task starts on the front page. Printed are the clicks (and keys, where it is done by keys alone) that it took, and what was found; a task that
fails says why. Kept, if asked for: what was on the screen at the end of each task.
"""
import argparse, json, re, shutil, subprocess, sys, time
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

sys.path.insert(0, str(Path(__file__).resolve().parent))
from browser_hand import Hand

TASKS = []


def task(words, **how):
    def put(f): TASKS.append((words, f, how)); return f
    return put


def at(hand): return unquote(urlparse(hand.place).path.rsplit("/", 1)[-1])


def seen(hand): return hand.js("document.querySelector('#quarto-document-content').innerText")


def first_screen(hand):
    "What is read without scrolling."
    return hand.js("""(() => { const found = [], walk = document.createTreeWalker(document.querySelector('#quarto-document-content'), NodeFilter.SHOW_TEXT);
        while (walk.nextNode()) { const r = document.createRange(); r.selectNodeContents(walk.currentNode);
            if ([...r.getClientRects()].some(b => b.height && b.bottom <= innerHeight && b.right <= innerWidth + 1)) found.push(walk.currentNode.data) }
        return found.join('') })()""")


def pair_named(site):
    "A pair that both models were studied on, by the name in its file: of capitals, where there is one."
    models = [p.name[6:-5] for p in sorted(site.glob("study-*.html"))]
    names = [{re.sub(f"^pair-{re.escape(m)}-", "", p.stem) for p in site.glob(f"pair-{m}-*.html")} for m in models]
    both = sorted(set.intersection(*names)) if names else []
    return next((n for n in both if n.startswith("capitals")), both[0] if both else None)


@task("the finding in 30 seconds")
def finding(hand, site):
    words = first_screen(hand)
    numbers = [*re.finditer(r"\d+\s?%", words)]
    assert len(numbers) > 1, f"no two numbers on the first screen: {words[:200]}"
    read = len(words[:numbers[1].end()].split())   # the answer, and what it says in numbers
    assert read <= 120, f"{read} words before the second number: at 240 words a minute that is more than 30 seconds"
    return f"{read} words up to {numbers[0][0]} and {numbers[1][0]}, at 240 a minute {read / 4:.0f} s"


@task("the finding, on a phone", width=390, height=844, mobile=True)
def finding_small(hand, site): return finding(hand, site)


@task("everything about one pair")
def one_pair(hand, site):
    hand.click(".bz-doors a", "Look up a pair")
    name = pair_named(site)
    hand.click(f"a[href$='{name}.html']")
    assert at(hand).startswith("pair-"), at(hand)
    text = seen(hand).lower()
    lacking = [w for w in ("clean", "corrupt", "attention", "lens", "noising") if w not in text]
    assert not lacking, f"the page of the pair lacks {lacking}"
    assert re.search(r"[a-z]\d{2,}", hand.js("document.querySelector('.bz-prompt').innerText")), "no token ids"
    return at(hand)


@task("one pair, on a phone", width=390, height=844, mobile=True)
def one_pair_small(hand, site):
    found = one_pair(hand, site)
    wide = hand.js("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 1, f"the page is {wide} pixels wider than the screen"
    return found


@task("one fact on both models")
def both(hand, site):
    one_pair(hand, site); before = at(hand)
    hand.click(".bz-links a", "the same in")
    assert at(hand) != before and at(hand).startswith("pair-")
    return f"{before} → {at(hand)}"


@task("the rows behind a chart as CSV, and the chart as SVG")
def rows(hand, site):
    import pandas as pd
    found = []
    for what, kind in (("rows (CSV)", "csv"), ("picture (SVG)", "svg")):
        link = hand.js(f"[...document.querySelectorAll('.bz-take a')].find(a => a.textContent === {json.dumps(what)}).href")
        path = Path(unquote(urlparse(link).path))
        hand.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=hand.folder)
        hand.click(".bz-take a", what)
        until = time.time() + 20
        while not (got := Path(hand.folder)/path.name).is_file() and time.time() < until: time.sleep(.1)
        assert got.is_file() and got.read_bytes() == path.read_bytes(), f"{path.name} did not come"
        found.append(f"{len(pd.read_csv(got))} rows" if kind == "csv" else f"{got.stat().st_size // 1024} kB of SVG" * (b"<svg" in got.read_bytes()[:500]))
    assert all(found), found
    return ", ".join(found)


@task("a link to one chart")
def chart_link(hand, site):
    hand.click(".bz-doors a", "See the evidence")
    hand.click(".bz-take a", "link")
    where = urldefrag(hand.place)[1]
    taken = hand.clicks
    hand.open(hand.place)   # as somebody else opens it
    hand.until(f"(t => t > -5 && t < innerHeight)(document.getElementById({json.dumps(where)}).getBoundingClientRect().top)", 5)
    hand.clicks = taken
    return f"{at(hand)}#{where}"


@task("a link to one claim")
def claim_link(hand, site):
    hand.click("a[href^='claims.html#P']")
    where = urldefrag(hand.place)[1]
    hand.until(f"(t => t > -5 && t < 300)(document.getElementById({json.dumps(where)}).getBoundingClientRect().top)", 5)   # a long page scrolls for a second
    assert "rule" in seen(hand).lower()
    return f"{at(hand)}#{where}"


@task("the command that makes a number again")
def command(hand, site):
    hand.click("summary", "Reproduce these numbers")
    words = hand.js("[...document.querySelectorAll('details[open]')].map(d => d.innerText).find(t => t.includes('bizzaroworld study'))")
    assert words, "no command"
    return next(line.strip() for line in words.split("\n") if "bizzaroworld study" in line)


@task("search: capital")
def search(hand, site, words="capital", wanted="capital"):
    hand.click("#quarto-search input"); hand.type(words)
    hand.until("document.querySelectorAll('.smalldocs-search-results a').length > 0")
    first = hand.js("document.querySelector('.smalldocs-search-results a').innerText.split('\\n')[0]")
    hand.click(".smalldocs-search-results a")
    assert wanted.lower() in hand.js("document.body.innerText").lower(), f"{at(hand)} does not hold {wanted!r}"
    return f"{first} → {at(hand)}"


@task("search: L12H2")
def search_head(hand, site): return search(hand, site, "L12H2", "L12H2")


@task("search: P15")
def search_claim(hand, site):
    found = search(hand, site, "P15", "P15")
    assert at(hand) == "claims.html", found
    return found


@task("cite it")
def cite(hand, site):
    words = hand.js("[...document.querySelectorAll('pre')].map(p => p.innerText).find(t => t.includes('@'))")
    assert words and "title" in words, "no BibTeX"
    return words.split("\n")[0]


@task("an own pair")
def own(hand, site):
    hand.click(".bz-doors a", "Run it yourself")
    words = hand.js("[...document.querySelectorAll('pre')].map(p => p.innerText).find(t => t.includes('bizzaroworld look'))")
    assert words, "no command for a pair of one's own"
    return next(line.strip() for line in words.split("\n") if "look" in line)


@task("by keys alone: to the page of a pair")
def keys(hand, site):
    hand.key("Tab"); assert "Skip" in hand.js("document.activeElement.textContent")
    hand.key("Enter"); time.sleep(.2)
    for _ in range(60):
        hand.key("Tab")
        if "Look up a pair" in (hand.js("document.activeElement.textContent") or ""): break
    hand.key("Enter"); hand.settled(); assert at(hand) == "battery.html", at(hand)
    for _ in range(60):
        hand.key("Tab")
        if (hand.js("document.activeElement.getAttribute('href')") or "").startswith("pair-"): break
    hand.key("Enter"); hand.settled(); assert at(hand).startswith("pair-"), at(hand)
    return f"{hand.presses} keys, {at(hand)}"


@task("as a PDF")
def paper(hand, site):
    hand.click(".bz-doors a", "See the evidence"); time.sleep(2)
    path = Path(hand.folder)/"study.pdf"
    hand.paper(path)
    pages = len(re.findall(rb"/Type\s*/Page[^s]", path.read_bytes()))
    assert pages, "a PDF without pages"
    text = subprocess.run(["pdftotext", path, "-"], capture_output=True, text=True).stdout if shutil.which("pdftotext") else ""
    return f"{pages} pages, {path.stat().st_size / 1e6:.1f} MB" + f", {len(text.split()):,} words" * bool(text)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("site", nargs="?", default="_site", type=Path); p.add_argument("--keep", type=Path)
    p.add_argument("--only", default="", help="tasks whose words hold this")
    a = p.parse_args(); bad = 0
    if a.keep: a.keep.mkdir(parents=True, exist_ok=True)
    for words, f, how in TASKS:
        if a.only not in words: continue
        with Hand(**how) as hand:
            hand.open(a.site/"index.html")
            try: said, good = f(hand, a.site), True
            except Exception as e: said, good = f"{type(e).__name__}: {e}", False
            if good and hand.errors: said, good = f"errors: {hand.errors[:3]}", False
            bad += not good
            print(f"{'ok  ' if good else 'FAIL'} {words}: {hand.clicks} clicks; {said}", flush=True)
            if a.keep: hand.picture(a.keep/f"{re.sub(r'[^a-z0-9]+', '-', words.lower())}.png")
    return bool(bad)


if __name__ == "__main__": sys.exit(main())
