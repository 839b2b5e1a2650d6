"The method page's table of families is that of the tests, and README and front page say what is so."
import os
from pathlib import Path
import pandas as pd
import pytest

from bizzaroworld import schema

ROOT = Path(__file__).parent.parent


def table():
    "`data/families.csv` as the page shows it."
    rows = pd.read_csv(ROOT/"data"/"families.csv")
    lines = [f"| {r.family.replace('_', ' ')} | `{r.model_class}` | {r.patches} | {r.largest_difference:.1e} | {r.sites} |" for r in rows.itertuples()]
    return "\n".join(["| model | class | patches | largest difference (logits) | sites |", "|---|---|--:|--:|---|", *lines]) + "\n"


def as_markdown(frame):
    "A data frame as a table of Markdown."
    line = lambda cells: "| " + " | ".join(map(str, cells)) + " |"
    return "\n".join([line(frame), line(["---"] * frame.shape[1]), *map(line, frame.to_numpy())]) + "\n"


TABLES = {"families": table, "experiments": lambda: as_markdown(schema.experiments_table()),
    "patches": lambda: as_markdown(schema.columns_table(schema.PATCHES)), "triage": lambda: as_markdown(schema.columns_table(schema.TRIAGE))}


@pytest.mark.parametrize("name", TABLES)
def test_the_method_page_shows_the_tables_that_are_made(name):
    "The families from the tests, experiments and columns from the schema."
    page, wanted = ROOT/"nbs"/"method.md", TABLES[name]()
    before, rest = page.read_text().split(f"<!-- {name} -->\n")
    shown, after = rest.split(f"<!-- /{name} -->")
    if os.environ.get("BIZZAROWORLD_WRITE"):
        page.write_text(f"{before}<!-- {name} -->\n{wanted}<!-- /{name} -->{after}"); shown = wanted
    assert shown == wanted, "run this test with BIZZAROWORLD_WRITE=1"


def test_no_row_is_wrong_and_readme_counts_them():
    rows = pd.read_csv(ROOT/"data"/"families.csv")
    assert len(rows) == 68 and rows.largest_difference.max() <= 2e-3
    text = (ROOT/"README.md").read_text()
    assert "sixty-eight architectures" in text and rows.largest_difference.max() <= 1.05e-5
