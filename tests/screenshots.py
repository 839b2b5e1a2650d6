"""Pictures of every kind of page of the built site, wide and narrow, light and dark: `python tests/screenshots.py FOLDER [--site SITE]`.

They are to be looked at. Said of each: errors of the page, and whether it is wider than its screen.
"""
import argparse, sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from browser_hand import Hand

SIZES = {"wide": dict(width=1280, height=900), "narrow": dict(width=390, height=844, mobile=True)}
ONE_OF = ("study-*", "routes-*", "pair-*", "05_engine")   # of many pages alike one is enough


def kinds(site):
    "A page of each kind."
    found = [site/f"{n}.html" for n in ("index", "compare", "explorer", "battery", "claims", "performance", "method", "glossary")]
    return [p for p in [*found, *(next(iter(sorted(site.glob(f"{n}.html"))), None) for n in ONE_OF)] if p and p.is_file()]


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0]); p.add_argument("folder", type=Path); p.add_argument("--site", default="_site", type=Path)
    a = p.parse_args(); a.folder.mkdir(parents=True, exist_ok=True); bad = 0
    for size, how in SIZES.items():
        for theme in ("light", "dark"):
            with Hand(**how, dark=theme == "dark") as hand:
                for page in kinds(a.site):
                    hand.errors.clear(); hand.open(page)
                    if theme == "dark" and not hand.js("document.documentElement.classList.contains('quarto-dark') || document.body.classList.contains('quarto-dark')"):
                        hand.js("document.querySelector('.quarto-color-scheme-toggle').click()"); hand.settled()
                    hand.until("!document.querySelector('.bz-chart .bz-view') || [...document.querySelectorAll('.bz-chart .bz-view')].some(v => v.querySelector('svg'))", 10)
                    over = hand.js("document.documentElement.scrollWidth - innerWidth")
                    hand.picture(a.folder/f"{page.stem.split('~')[0][:40]}-{size}-{theme}.png", whole=True)
                    wrong = [*hand.errors, *[f"{over} pixels wider than the screen"] * (over > 1)]
                    bad += bool(wrong); print(f"{'FAIL' if wrong else 'ok  '} {page.name}, {size}, {theme}: {'; '.join(wrong)}", flush=True)
    return bool(bad)


if __name__ == "__main__": sys.exit(main())
