"""Execute the pages on the finished studies of this checkout and keep what they show: `python tests/keep_pages.py [PAGE ...]`.

Whoever opens a page on a forge or in JupyterLab sees the finding. Pictures are kept as JPEG, since a forge draws no specification; pictures
that need a script are named. Not a test: it needs the studies of `make report` in `results/`.
"""
import base64, re, sys
from pathlib import Path

import nbformat, vl_convert
from nbclient import NotebookClient

from bizzaroworld import website

ROOT = Path(__file__).resolve().parent.parent


def static(output):
    "An output without what only a browser draws, and without what tells of this machine."
    if output.output_type == "stream": return None if output.name == "stderr" else output
    data = output.get("data", {})
    spec = next((data[k] for k in data if k.startswith("application/vnd.vegalite")), None)
    if spec:
        title = spec.get("title", "")
        said = title.get("text", "") if isinstance(title, dict) else title
        drawn = {**spec, **({"width": 560} if spec.get("width") == "container" else {})}
        picture = base64.b64encode(vl_convert.vegalite_to_jpeg(drawn, scale=1, quality=80)).decode()   # a third of a PNG of it
        return nbformat.v4.new_output("display_data", data={"image/jpeg": picture, "text/plain": " ".join(said) if isinstance(said, list) else said})
    html = "".join(data.get("text/html", ""))
    if "<script" in html: return nbformat.v4.new_output("display_data", data={"text/plain": "a picture that one can turn: on the site"})
    if html: data["text/html"] = re.sub(r"(?s)<style scoped>.*?</style>", "", html)
    return output


def keep(name):
    "Execute one page in place."
    path = website.book() / f"{name}.ipynb"
    notebook = nbformat.read(path, 4)
    NotebookClient(notebook, timeout=1800, kernel_name="python3", resources=dict(metadata=dict(path=str(path.parent)))).execute()
    for cell in notebook.cells:
        if cell.cell_type != "code": continue
        cell.outputs = [kept for o in cell.outputs if (kept := static(o))]
        cell.metadata.pop("execution", None)
    nbformat.write(notebook, path)
    print(f"{name}: {path.stat().st_size / 1e6:.2f} MB", flush=True)


if __name__ == "__main__":
    for name in sys.argv[1:] or website.pages(): keep(name)
