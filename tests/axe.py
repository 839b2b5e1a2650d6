"""What axe-core finds on a built page, as a browser shows it with every host name unknown.

`python tests/axe.py PAGE.html ...` prints the counts of each page.
"""
import html, json, re, subprocess, sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from attack.pages import BROWSER

_found = find_spec("axe_core_python")
SOURCE = (Path(_found.origin).parent / "axe.min.js").read_text(encoding="utf-8") if _found else None

LOOK = """addEventListener("load", () => setTimeout(() => {
  document.querySelectorAll("main details").forEach(d => { d.open = true; });
  %s
  setTimeout(() => axe.run(document, { resultTypes: ["violations"] }).then(r => {
    const out = document.createElement("pre"); out.id = "axe-out";
    out.textContent = JSON.stringify(r.violations.map(v => ({ id: v.id, impact: v.impact, nodes: v.nodes.length, where: v.nodes.slice(0, 3).map(n => n.html.slice(0, 200)) })));
    document.body.appendChild(out);
  }), 1500);
}, 1500))"""
DARK = 'document.documentElement.classList.add("quarto-dark");'


def violations(page, *, width=1280, dark=False):
    "A list of `id, impact, nodes, where`, everything on the page unfolded."
    page, safe = Path(page), SOURCE.replace("</script", "<\\/script")
    copy = page.with_name(f"axe-{page.name}")
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", f"<script>{safe}</script><script>{LOOK % (DARK if dark else '')}</script></body>"), encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND", f"--window-size={width},900", "--virtual-time-budget=30000", "--dump-dom", copy.resolve().as_uri()]
    try: shown = subprocess.run(command, capture_output=True, text=True, timeout=180).stdout
    finally: copy.unlink()
    found = re.search(r'(?s)<pre id="axe-out"[^>]*>(.*?)</pre>', shown)
    assert found, f"axe-core said nothing of {page.name}"
    return json.loads(html.unescape(found[1]))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(name, {f"{v['impact']} {v['id']}": v["nodes"] for v in violations(name)} or "nothing")
