"""How long pages of a built site take from the disk in a headless browser, with every host name unknown.

`python tests/load.py SITE [PAGE ...]` prints for each page: until its text can be read and used (DOMContentLoaded), and until the figures that one
sees are drawn. The smallest of three times. The front page is to be there within 1 s, any page within 2.5 s.
"""
import json, shutil, subprocess, sys, tempfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import unquote

sys.path.insert(0, str(Path(__file__).parent))
from attack.pages import BROWSER

# the last figure in sight is drawn when nothing has changed for a while; times are the browser's own, from the beginning of the navigation
WATCH = """<script>(function () {
  var last = 0, drawn = new MutationObserver(function (all) { if (all.some(function (m) { return m.target.closest && m.target.closest(".bz-view, .bz-map"); })) last = performance.now(); });
  addEventListener("DOMContentLoaded", function () { drawn.observe(document.body, { subtree: true, childList: true }); });
  function said() {
    var t = performance.getEntriesByType("navigation")[0];
    if (performance.now() < last + 1200 || !t.loadEventEnd) return setTimeout(said, 100);
    new Image().src = "http://127.0.0.1:%d/?" + encodeURIComponent(JSON.stringify([t.domInteractive, t.domContentLoadedEventEnd, Math.max(last, t.loadEventEnd)]));
  }
  setTimeout(said, 2500);
})();</script>"""


class Told(BaseHTTPRequestHandler):
    "Takes what the page has measured of itself."
    def do_GET(self):
        self.server.told = json.loads(unquote(self.path.partition("?")[2]))
        self.send_response(204); self.end_headers()
    def log_message(self, *_): pass


def load_times(page, *, width=1280):
    "Milliseconds until a page is parsed, can be used, and has drawn what is in sight; in real time."
    page, server = Path(page), HTTPServer(("127.0.0.1", 0), Told)
    copy, profile, server.told, server.timeout = page.with_name(f"timed-{page.name}"), tempfile.mkdtemp(), None, 30
    copy.write_text(page.read_text(encoding="utf-8").replace("<head>", "<head>" + WATCH % server.server_port, 1), encoding="utf-8")
    browser = subprocess.Popen([BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--no-first-run", f"--user-data-dir={profile}",
        "--remote-debugging-port=0", f"--window-size={width},900", copy.resolve().as_uri()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try: server.handle_request()
    finally: browser.terminate(); browser.wait(); copy.unlink(); server.server_close(); shutil.rmtree(profile, ignore_errors=True)
    assert server.told, f"{page.name} was not loaded within 30 s"
    return server.told


if __name__ == "__main__":
    site = Path(sys.argv[1])
    kinds = ("index", "study-*", "routes-*", "compare", "explorer", "battery", "claims", "method", "glossary", "pair-*", "05_engine")
    names = sys.argv[2:] or [p.name for kind in kinds for p in sorted(site.glob(f"{kind}.html"))[:2]]
    for name in names:
        times = [load_times(site / name) for _ in range(3)]
        _, used, drawn = (min(t[k] for t in times) for k in range(3))
        print(f"{name}: can be used after {used:.0f} ms, drawn after {drawn:.0f} ms")
