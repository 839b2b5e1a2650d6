"The report's notebooks, executed by papermill on a study of four pairs: few pairs are where a report breaks."
import pytest

from bizzaroworld.battery import read_battery
from bizzaroworld.study import study
from bizzaroworld.models import load
from bizzaroworld.report import run_report

PAIRS = """category,clean_prompt,corrupt_prompt,clean_target,corrupt_target
capitals,The capital of France is,The capital of Japan is, Paris, Tokyo
capitals,The capital of Spain is,The capital of Italy is, Madrid, Rome
opposites,The opposite of hot is,The opposite of big is, cold, small
opposites,The opposite of big is,The opposite of long is, small, short
"""


@pytest.fixture(scope="module")
def results(tiny_folders, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    (folder / "few.csv").write_text(PAIRS)
    study(load(str(tiny_folders["gemma3"]), device="cpu", self_test=False), read_battery(folder / "few.csv"), out=folder / "results" / "gemma3", source="few.csv")
    return folder


def test_a_report_of_four_pairs(results, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    site = run_report(results=results / "results", site=results / "site", proc=results / "proc").parent
    page = (site / "study-gemma3.html").read_text()
    assert {"index.html", "compare.html", "battery.html", "study-gemma3.html"} <= {p.name for p in site.glob("*.html")}
    assert "In plain words" in page and page.count('<figure class="bz-chart"') >= 12
    # the folder of this model is not a name that the report can load again: it says so and goes on
    assert "gemma3 is not at hand here" in page and "bz-tokens" not in page
    assert "a comparison needs two" in (site / "compare.html").read_text()
