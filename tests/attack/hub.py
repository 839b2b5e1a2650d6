"Every answer that the hub can give, once each, and the study that asked for it."
import importlib.util, sys, tempfile, time
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent

def beside(name): # a file of tests/ by its path: this one has the same name
    spec = importlib.util.spec_from_file_location(f"tests_{name}", TESTS/f"{name}.py")
    module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
    return module

def attack(seconds, seed=0, folder=None):
    "Ask for one model under every answer of the stand-in hub: the right status, one line that says why, in bounded time."
    hub, tiny, began = beside("hub"), beside("conftest"), time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder) as tmp:
        tmp = Path(tmp)
        tiny.tiny_model("llama").save_pretrained(tmp/"llama"); tiny.tiny_tokenizer(False).save_pretrained(tmp/"llama")
        (tmp/"pairs.csv").write_text(hub.BATTERY)
        names, faults, tried, slowest = list(hub.ANSWERS), [], 0, 0
        (tmp/"home").mkdir()
        with hub.Hub(tmp/"llama") as server:
            while names and time.monotonic() - began < seconds:
                some, names = names[:12], names[12:]
                jobs = [(n, ["study", "--model", f"stand-in/{n}", "--battery", tmp/"pairs.csv", "--out", tmp/"out"/n, "--quick", "--experiments", "1"])
                        for n in some]
                for name, found in hub.ask(server, tmp/"home", jobs).items():
                    tried, slowest = tried + 1, max(slowest, found[2])
                    if fault := hub.wrong(name, *found): faults.append(fault)
                    if not hub.ANSWERS[name][0] and not (tmp/"out"/name/"run.json").is_file(): faults.append(f"{name}: no study was written")
                    if hub.ANSWERS[name][0] and (tmp/"out"/name).exists(): faults.append(f"{name}: something was written")
    return dict(tried=tried, wrong=faults, answers=len(hub.ANSWERS), slowest_seconds=round(slowest, 1))

if __name__ == "__main__":
    found = attack(float(sys.argv[1]) if len(sys.argv) > 1 else 300)
    print(*found["wrong"], sep="\n")
    print({k: v for k, v in found.items() if k != "wrong"}, len(found["wrong"]), "wrong")
