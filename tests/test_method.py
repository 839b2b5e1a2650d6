"The method page's table of families is that of the tests, and README and front page say what is so."
import os
from pathlib import Path
import pandas as pd

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- families -->\n", "<!-- /families -->"


def table():
    "`data/families.csv` as the page shows it."
    rows = pd.read_csv(ROOT/"data"/"families.csv")
    lines = [f"| {r.family.replace('_', ' ')} | `{r.model_class}` | {r.patches} | {r.largest_difference:.1e} | {r.sites} |" for r in rows.itertuples()]
    return "\n".join(["| model | class | patches | largest difference (logits) | sites |", "|---|---|--:|--:|---|", *lines]) + "\n"


def test_the_method_page_shows_the_table_of_the_tests():
    page = ROOT/"nbs"/"method.md"
    before, rest = page.read_text().split(BEGIN)
    shown, after = rest.split(END)
    if os.environ.get("BIZZAROWORLD_WRITE"): page.write_text(before + BEGIN + table() + END + after); shown = table()
    assert shown == table(), "run this test with BIZZAROWORLD_WRITE=1"


def test_no_row_is_wrong_and_readme_counts_them():
    rows = pd.read_csv(ROOT/"data"/"families.csv")
    assert len(rows) == 68 and rows.largest_difference.max() <= 2e-3
    text = (ROOT/"README.md").read_text()
    assert "sixty-eight architectures" in text and rows.largest_difference.max() <= 1.05e-5
