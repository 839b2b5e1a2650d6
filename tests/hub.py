"""A stand-in for the hub: a server on this machine that gives each answer the hub can give.

What is asked for says which: `stand-in/NAME`, with NAME one of `ANSWERS`. It serves the files of a folder, speaks as
much of the hub's protocol as `huggingface_hub` uses, and ends with the `with` block; no answer takes longer than 20 s.
A command finds it through HF_ENDPOINT, which is read when `huggingface_hub` is imported: so, in a process of its own.
"""
import hashlib, json, re, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OLD = "76543210fedcba9876543210fedcba9876543210"   # an earlier commit, whose configuration says so
REVISIONS = {"main": COMMIT, COMMIT: COMMIT, "v1.0": OLD, "refs/pr/1": OLD, OLD: OLD, OLD[:8]: OLD}
BIG = "model.safetensors"
JSON = {"quantised": {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    "own-code": {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}}

# name: (exit status, what the last line says)
ANSWERS = {
    "good": (0, ""), "busy-once": (0, ""), "reset-once": (0, ""), "limit-once": (0, ""), "file-busy-once": (0, ""), "silent-once": (0, ""),
    "plain-file": (0, ""), "elsewhere": (0, ""), "list-busy-once": (0, ""),
    "good@v1.0": (0, ""), "good@refs/pr/1": (0, ""), f"good@{OLD}": (0, ""), f"good@{OLD[:8]}": (0, ""), "good@main": (0, ""),
    "good@v9": (2, r"'stand-in/good' from the hub: it has no revision 'v9'; https://huggingface.co/stand-in/good/commits"),
    "gated@v1.0": (2, r"gated; accept its licence on https://huggingface.co/stand-in/gated, then"), "missing@v1.0": (2, r"no such model"),
    "busy@v1.0": (1, r"answers 503"), "quantised@v1.0": (2, r"quantised \(gptq\)"), "good@": (2, r"names no revision of stand-in/good"),
    "good@../x": (2, r"names no revision of stand-in/good"),
    "busy": (1, r"answers 503 \(Service Unavailable\)"), "broken": (1, r"answers 500"), "limit": (1, r"answers 429 .* asks to wait 3600 s"),
    "silent": (1, r"said nothing for 1 s"), "silent-file": (1, r"model.safetensors of .* said nothing for 1 s 4 times"),
    "silent-list": (1, r"said nothing for 1 s"), "reset": (1, r"model.safetensors of .* broke 4 times"), "hang-up": (1, r"the connection to .* broke"),
    "cut": (1, r"cannot get"), "slow": (1, r"too slowly"), "long": (1, r"sends more of .* than it promised"),
    "wrong-sum": (1, r"does not match the hub's checksum"), "wrong-sum-small": (1, r"does not match the hub's checksum"),
    "html": (1, r"what answers is not the hub"), "no-tag": (1, r"what answers is not the hub"), "garbage-list": (1, r"cannot get"),
    "list-of-lists": (1, r"cannot get"), "loop": (1, r"cannot get"), "teapot": (1, r"answers 418"), "nonsense": (1, r"broke"),
    "gated": (2, r"gated; accept its licence on https://huggingface.co/stand-in/gated, then log in: `hf auth login` or HF_TOKEN"),
    "gated-token": (2, r"your token may not read it; accept its licence on https://huggingface.co/stand-in/gated-token"),
    "forbidden": (2, r"accept its licence on https://huggingface.co/stand-in/forbidden"), "bad-token": (2, r"refuses your token.*`hf auth login` or HF_TOKEN"),
    "missing": (2, r"no such model.*check the name"), "missing-token": (2, r"no such model.*check the name"), "plain-404": (2, r"no such model"),
    "no-config": (2, r"holds no config.json"), "empty": (2, r"it is empty"), "disabled": (2, r"the hub has closed it"), "closed": (2, r"the hub has closed it"),
    "pickled": (2, r"can run code when it is read"), "adapter": (2, r"holds an adapter"), "lost-shard": (2, r"lacks weights"),
    "quantised": (2, r"quantised \(gptq\)"), "own-code": (2, r"code of a model is never run"), "odd-token": (2, r"HF_TOKEN"),
}
WITH_TOKEN = {"gated-token": "hf_standin", "bad-token": "hf_standin", "missing-token": "hf_standin", "odd-token": "hf_\u20ac"}


class Hub:
    "Serve the files of a folder as `stand-in/NAME`; `url` is its address, `asked` what was asked for."
    def __init__(self, folder):
        self.files = {p.name: p.read_bytes() for p in Path(folder).iterdir() if p.is_file()}
        self.asked, self.ended, self.seen = [], threading.Event(), set()

    def __enter__(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Answer,), {"hub": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_): self.ended.set(); self.server.shutdown(); self.server.server_close()

    def once(self, *key): # whether this is asked for the first time
        first = key not in self.seen
        self.seen.add(key)
        return first

    def of(self, name, commit=COMMIT): # the files of one model
        files = dict(self.files)
        if commit == OLD: files["config.json"] = json.dumps({**json.loads(files["config.json"]), "old": True}).encode()
        if name in JSON: files["config.json"] = json.dumps({**json.loads(files["config.json"]), **JSON[name]}).encode()
        if name == "pickled": files["pytorch_model.bin"] = files.pop(BIG)
        if name == "adapter": files["adapter_config.json"] = b"{}"
        if name == "no-config": del files["config.json"]
        if name == "lost-shard":
            files["model-00001-of-00002.safetensors"] = files.pop(BIG)
            files[f"{BIG}.index.json"] = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}).encode()
        return files


class Answer(BaseHTTPRequestHandler):
    "One question and its answer."
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_HEAD(self): self.answer(False)
    def do_GET(self): self.answer(True)

    def answer(self, body):
        try: self._answer(body)
        except (ConnectionError, TimeoutError): self.close_connection = True

    def _answer(self, body):
        path = self.path.partition("?")[0]
        self.hub.asked.append((self.command, path))
        listed = re.fullmatch(r"/api/models/stand-in/([^/]+)(?:/revision/(\w+))?", path)
        file = re.fullmatch(r"/stand-in/([^/]+)/resolve/([^/]+)/(.+)", path)
        if path.startswith("/cdn/"): return self.send(self.hub.files[path.rpartition("/")[2]], body)
        if not listed and not file: return self.fail(404)
        name, self.commit = (listed or file)[1], REVISIONS.get(unquote((listed or file)[2] or "main"))
        if self.refuse(name, bool(listed), file and file[3], body): return
        if self.commit is None: return self.fail(404, "RevisionNotFound")
        files = self.hub.of(name, self.commit)
        if listed: return self.listing(name, files, body)
        if file[3] not in files: return self.fail(404, "EntryNotFound", commit=True)
        self.file(name, file[3], files[file[3]], body)

    def refuse(self, name, listing, file, body): # whether the answer was given
        token, small = self.headers.get("Authorization"), file and file != BIG
        status = {"busy": 503, "broken": 500, "teapot": 418, "plain-404": 404, "closed": 451}.get(name)
        if status: return self.fail(status)
        if name == "busy-once" and self.hub.once(name, self.command): return self.fail(503)
        if name == "file-busy-once" and file == BIG and body and self.hub.once(name): return self.fail(502)
        if name == "list-busy-once" and listing and self.hub.once(name): return self.fail(504)
        if name == "limit-once" and self.hub.once(name): return self.fail(429, more={"Retry-After": "1"})
        if name == "limit": return self.fail(429, more={"Retry-After": "3600"})
        if name == "silent" or name == "silent-list" and listing or name == "silent-once" and self.hub.once(name): return self.say_nothing()
        if name == "hang-up": self.close_connection = True; return True
        if name == "nonsense": self.wfile.write(b"\x16\x03\x01 what?\r\n\r\n"); self.close_connection = True; return True
        if name.startswith("gated") and file: return self.fail(403 if token else 401, "GatedRepo", "Access to this model is restricted")
        if name == "forbidden" and file: return self.fail(403)
        if name == "bad-token" and token: return self.fail(401, message="Invalid credentials in Authorization header")
        if name.startswith("missing"): return self.fail(404 if token else 401, "RepoNotFound", "Repository not found")
        if name == "empty": return self.fail(404, "RevisionNotFound")
        if name == "disabled": return self.fail(403, message="Access to this resource is disabled.")
        if name == "html": return self.send(b"<html>Please log in</html>", body, {"ETag": '"a"'})
        if name == "loop": return self.fail(302, more={"Location": self.path + "?again"})
        if name == "garbage-list" and listing: return self.send(b"{", body)
        if name == "list-of-lists" and listing: return self.send(b"[[1]]", body)
        return False

    def listing(self, name, files, body):
        siblings = [dict(rfilename=n, size=len(d), blobId=git(d), **(dict(lfs=dict(size=len(d), sha256=sha(d), pointerSize=130)) if large(n) else {}))
                    for n, d in files.items()]
        self.send(json.dumps(dict(id=f"stand-in/{name}", sha=self.commit, private=False, tags=[], downloads=0, siblings=siblings)).encode(), body)

    def file(self, name, file, data, body):
        head = {"X-Repo-Commit": self.commit, "ETag": f'"{git(data)}"', "Accept-Ranges": "bytes"}
        if name == "no-tag": head = {}
        if large(file): head |= {"X-Linked-Etag": f'"{sha(data)}"', "X-Linked-Size": str(len(data))}
        if name == "plain-file": head["ETag"] = f'"{file}-1"'; head.pop("X-Linked-Etag", None)   # a mirror: the name is no checksum
        if name == "elsewhere" and large(file): return self.fail(302, more={**head, "Location": f"http://localhost:{self.server.server_address[1]}/cdn/{file}"})
        if name == ("wrong-sum" if large(file) else "wrong-sum-small"): data = data[:-1] + bytes([data[-1] ^ 1])
        first = int(re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
        if not body or not large(file): return self.send(data, body, head)
        if name == "reset" or name == "reset-once" and self.hub.once(name): return self.part(data, first, head, break_off=True)
        if name == "silent-file": return self.part(data, first, head)
        if name == "slow": return self.part(data, first, head, drip=True)
        if name == "cut": return self.send(data[:-9], body, head)
        if name == "long": return self.part(data + bytes(100_000), 0, head, whole=True)
        if first: return self.send(data[first:], body, {**head, "Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"}, 206)
        self.send(data, body, head)

    def part(self, data, first, head, break_off=False, drip=False, whole=False): # a body that does not end as it should
        self.send_response(200)
        for k, v in head.items(): self.send_header(k, v)
        if not whole: self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.close_connection = True
        if whole: self.wfile.write(data); return
        self.wfile.write(data[:len(data) // 2]); self.wfile.flush()
        if break_off: self.connection.setsockopt(1, 13, b"\x01\0\0\0\0\0\0\0")   # SO_LINGER of none: closing resets
        elif drip:
            for i in range(60):
                if self.hub.ended.wait(.3): break
                self.wfile.write(data[i:i + 1]); self.wfile.flush()
        else: self.hub.ended.wait(20)
        self.connection.close() if break_off else None

    def say_nothing(self): self.hub.ended.wait(20); self.close_connection = True; return True

    def send(self, data, body, head=None, status=200):
        self.send_response(status)
        for k, v in (head or {}).items(): self.send_header(k, v)
        self.send_header("Content-Length", str(len(data))); self.end_headers()
        if body: self.wfile.write(data)
        return True

    def fail(self, status, code=None, message=None, more=None, commit=False):
        head = {**({"X-Error-Code": code} if code else {}), **({"X-Error-Message": message} if message else {}), **(more or {})}
        if commit: head["X-Repo-Commit"] = self.commit
        return self.send(b"", True, head, status)


def large(name): return name.endswith((".safetensors", ".bin"))
def sha(data): return hashlib.sha256(data).hexdigest()
def git(data): return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


# ---------------------------------------------------------------- commands against it

DRIVER = """import contextlib, io, json, os, sys, time
from bizzaroworld import cli, hub as patience
patience.AGAIN, patience.SLOW = (1, 1, 1), (2, 60_000)
def folder(name): # what a command does first, without what it does then
    try: patience.model_folder(name); return 0
    except patience.InputError as e: print("bizzaroworld:", e, file=sys.stderr); return 2
    except patience.HubError as e: print("bizzaroworld:", e, file=sys.stderr); return 1
for name, token, words in json.loads(sys.argv[1]):
    os.environ.pop("HF_TOKEN", None)
    if token: os.environ["HF_TOKEN"] = token
    said, began = io.StringIO(), time.monotonic()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try: status = folder(words[1]) if words[0] == "folder" else cli.main(words)
        except SystemExit as e: status = e.code
        except BaseException as e: status = repr(e)
    print("ANSWER", json.dumps([name, status, said.getvalue().splitlines(), time.monotonic() - began]), flush=True)
"""

def ask(hub, home, jobs, limit=300): # jobs: [(name, words)]; gives {name: (status, lines on standard error, seconds)}
    "Commands in one fresh process that finds the stand-in where it looks for the hub, and would answer `y` to any question."
    import os, subprocess, sys
    root = str(Path(__file__).resolve().parent.parent)
    env = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN")} | dict(HF_ENDPOINT=hub.url,
        HF_HOME=str(home), HF_HUB_DOWNLOAD_TIMEOUT="1", BIZZAROWORLD_CACHE=str(Path(home)/"own"), PYTHONPATH=root, NO_PROXY="127.0.0.1,localhost",
        OMP_WAIT_POLICY="PASSIVE", KMP_BLOCKTIME="0")
    words = json.dumps([(name, WITH_TOKEN.get(name), [str(w) for w in words]) for name, words in jobs])
    done = subprocess.run([sys.executable, "-c", DRIVER, words], input="y\n" * 500, capture_output=True, text=True, env=env, timeout=limit, cwd=home)
    found = [json.loads(line.removeprefix("ANSWER ")) for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    if len(found) < len(jobs): raise AssertionError(f"{len(found)} of {len(jobs)} answered: {done.stdout[-2000:]} {done.stderr[-2000:]}")
    return {name: (status, lines, seconds) for name, status, lines, seconds in found}

BATTERY = "category,clean_prompt,corrupt_prompt,clean_target,corrupt_target\n" + "".join(
    f"capital,the capital of {a} is,the capital of {b} is, {c}, {d}\n" for a, b, c, d in
    (("france", "japan", "paris", "tokyo"), ("spain", "italy", "madrid", "rome"), ("japan", "spain", "tokyo", "madrid")))

def wrong(name, status, lines, seconds, most=25): # what is not as it should be; empty where all is
    want, text = ANSWERS[name]
    last, faults = lines[-1] if lines else "", []
    if status != want: faults.append(f"status {status!r}, not {want}")
    if want and not re.search(text, last): faults.append("another line")
    if want and not all(l.startswith("bizzaroworld: ") for l in lines): faults.append("more than our own lines")
    if any("Traceback" in l for l in lines): faults.append("a traceback")
    if any(len(l) > 500 or WITH_TOKEN.get(name, "no token") in l for l in lines): faults.append("too long, or the token is shown")
    if seconds > most: faults.append(f"{seconds:.0f} s")
    return f"{name}: {', '.join(faults)}: {last[:300]}" if faults else ""
