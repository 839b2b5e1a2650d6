"Write `data/rules.csv`: since when each rule stands as it is, by the repository's own history. `python tests/keep_rules.py`"
import csv, subprocess
from pathlib import Path
from bizzaroworld.judged import rules

ROOT = Path(__file__).parents[1]
WHERE = ("bizzaroworld/claims.py", "bizzaroworld/article.py")

def since(rule):
    "Date and commit of the oldest commit from which on a docstring stands as it is."
    said = " ".join(rule.split())
    log = subprocess.run(["git", "log", "--format=%h %as", "--", *WHERE], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    found = ("", "")
    for line in filter(None, log):
        commit, date = line.split()
        shown = (subprocess.run(["git", "show", f"{commit}:{file}"], cwd=ROOT, capture_output=True, text=True).stdout for file in WHERE)
        if not any(said in " ".join(text.split()) for text in shown): break
        found = date, commit
    return found

if __name__ == "__main__":
    rows = [(r.id, *since(r.rule)) for r in rules().itertuples()]
    with open(ROOT/"data/rules.csv", "w", newline="") as f: csv.writer(f, lineterminator="\n").writerows([("id", "date", "commit"), *rows])
