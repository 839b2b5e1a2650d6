"""A reader's hand in a real browser: pages are opened from the disk, clicked, typed on, looked at, printed, and clicks are counted.

Chromium is led over its own protocol (DevTools), with no network. `Hand` is what `tests/reader_tasks.py` and `tests/screenshots.py` use.
"""
import base64, itertools, json, shutil, subprocess, tempfile, time
from pathlib import Path
from urllib.request import urlopen
import websocket

CHROMIUM = next((p for n in ("chromium", "chromium-browser", "google-chrome", "chrome") if (p := shutil.which(n))), None)
KEYS = dict(Tab=9, Enter=13)


class Hand:
    "One page of a headless browser."

    def __init__(self, *, width=1280, height=900, mobile=False, dark=False):
        if CHROMIUM is None: raise SystemExit("no browser: install chromium")
        self.folder = tempfile.mkdtemp(prefix="hand")
        words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--host-resolver-rules=MAP * ~NOTFOUND", "--hide-scrollbars",
            "--allow-file-access-from-files", f"--user-data-dir={self.folder}", f"--window-size={width},{height}", "about:blank"]
        self.process = subprocess.Popen([CHROMIUM, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port, until = Path(self.folder)/"DevToolsActivePort", time.time() + 60
        while not port.is_file() or not port.read_text().strip():
            if time.time() > until: raise RuntimeError("the browser did not start")
            time.sleep(.05)
        number = port.read_text().split()[0]
        page = next(t for t in json.load(urlopen(f"http://127.0.0.1:{number}/json")) if t["type"] == "page")
        self.wire = websocket.create_connection(page["webSocketDebuggerUrl"], timeout=60, suppress_origin=True, max_size=None)
        self.numbers, self.clicks, self.presses, self.errors = itertools.count(1), 0, 0, []
        for domain in ("Page", "Runtime", "Network", "Log"): self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        if mobile: self.call("Emulation.setTouchEmulationEnabled", enabled=True)
        if dark: self.call("Emulation.setEmulatedMedia", features=[dict(name="prefers-color-scheme", value="dark")])

    def __enter__(self): return self

    def __exit__(self, *_):
        self.wire.close(); self.process.kill(); self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _heard(self, message):
        kind, what = message.get("method"), message.get("params", {})
        if kind == "Runtime.exceptionThrown": self.errors.append(what["exceptionDetails"].get("exception", {}).get("description", "") or what["exceptionDetails"]["text"])
        if kind == "Network.loadingFailed" and not what.get("canceled"): self.errors.append(f"not loaded: {what.get('errorText')}")

    def call(self, method, **params):
        "A command of the protocol, and its answer."
        number = next(self.numbers)
        self.wire.send(json.dumps(dict(id=number, method=method, params=params)))
        while True:
            message = json.loads(self.wire.recv())
            if message.get("id") == number:
                if "error" in message: raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            self._heard(message)

    def js(self, text):
        "The value of an expression on the page."
        found = self.call("Runtime.evaluate", expression=text, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found: raise RuntimeError(found["exceptionDetails"]["exception"].get("description", text))
        return found["result"].get("value")

    def until(self, text, seconds=20):
        "Wait until an expression is true."
        end = time.time() + seconds
        while time.time() < end:
            try:
                if value := self.js(text): return value
            except RuntimeError: pass
            time.sleep(.05)
        raise AssertionError(f"never true: {text}")

    def open(self, place):
        "A page, by its path; what is typed or clicked is counted anew."
        self.clicks = self.presses = 0
        self.js("window.left = true")   # an anchor of the same page loads nothing, so the page that was there is left first
        self.call("Page.navigate", url="about:blank"); self.until("!window.left")
        self.call("Page.navigate", url=place if "://" in str(place) else Path(place).resolve().as_uri())
        self.until("location.href !== 'about:blank'"); self.settled()

    def settled(self):
        "Loaded, and charts drawn."
        time.sleep(.25); self.until("document.readyState === 'complete'")
        time.sleep(.3)

    place = property(lambda self: self.js("location.href"))

    def click(self, which, text=""):
        "Click what a selector finds, or that of it which holds a text; it must be seen where the click lands."
        find = f"[...document.querySelectorAll({json.dumps(which)})].find(e => e.getClientRects().length && (e.textContent + (e.getAttribute('aria-label') || '')).includes({json.dumps(text)}))"
        self.until(f"!!({find})")
        self.js(f"({find}).scrollIntoView({{block: 'center', behavior: 'instant'}})"); time.sleep(.15)
        x, y, hit = self.js(f"(() => {{ const e = {find}, r = e.getClientRects()[0], x = r.x + r.width / 2, y = r.y + r.height / 2, h = document.elementFromPoint(x, y);"
            " return [x, y, !!h && (e.contains(h) || h.contains(e))] })()")
        if not hit: raise AssertionError(f"{which} {text!r} is covered at {x:.0f}, {y:.0f}")
        for kind in ("mousePressed", "mouseReleased"): self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.clicks += 1; self.settled()

    def key(self, name):
        "Press a key."
        down = dict(text="\r") if name == "Enter" else {}
        for kind, more in (("keyDown", down), ("keyUp", {})):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=KEYS[name], **more)
        self.presses += 1; time.sleep(.05)

    def type(self, text):
        "Type letters where the focus is."
        self.call("Input.insertText", text=text); time.sleep(.4)

    def picture(self, path, whole=False):
        "What is seen, or the whole page, as PNG."
        more = {}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            more = dict(captureBeyondViewport=True, clip=dict(x=0, y=0, width=size["width"], height=min(size["height"], 12000), scale=1))
        Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png", **more)["data"]))

    def paper(self, path):
        "The page as PDF."
        Path(path).write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"]))
