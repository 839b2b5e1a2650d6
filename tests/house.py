"""The rules of the house, and what a reader of the code counts: `python tests/house.py`.

Only the standard library, and nothing of the package: notebooks are read as JSON, modules as syntax trees. `test_house.py` holds the
repository to the rules, and shows each of them fail once.
"""
import ast, json, re
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE_LINE, CODE_LINE, CELLS, EXPORTED, PROSE = 110, 120, 60, 30, .25
# names that two modules define on purpose
TWICE = {"in_plain_words": "the first section of each page, in the module that speaks for the page",
    "worker": "what `peers.in_process` runs of a module, by this name"}
# what does not hold yet: how many faults of a rule a file may have; fewer are a fault too, so that this list only shrinks
NOT_YET = {}


def cells(path): return json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
def source(cell): return "".join(cell["source"])
def code(path): return [source(c) for c in cells(path) if c["cell_type"] == "code"]
def exported(text): return bool(re.match(r"#\| *export\b", text.lstrip()))
def body(text): return "\n".join(l for l in text.splitlines() if not l.startswith("#|"))


def pages(root=ROOT): return [p for p in (root / "nbs/index.ipynb", *sorted((root / "nbs/reports").glob("*.ipynb"))) if p.is_file()]
def chapters(root=ROOT): return sorted((root / "nbs").glob("[0-9]*.ipynb"))
def lessons(root=ROOT): return [*(root / "nbs").glob("tutorial.ipynb"), *chapters(root)]   # the tutorial is no module, and reads like one
def modules(root=ROOT): return [p for p in sorted((root / "bizzaroworld").glob("*.py")) if p.name not in ("__init__.py", "_modidx.py")]


def tree(text):
    try: return ast.parse(body(text))
    except SyntaxError: return ast.parse("")   # a line of IPython's own


def programs(path):
    "Functions, classes and named lambdas in a page."
    found = []
    for text in code(path):
        for node in ast.walk(tree(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)): found.append(node.name)
            if isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr)) and isinstance(node.value, ast.Lambda): found.append("a named lambda")
    return found


def long_lines(text, limit): return [l for l in text.splitlines() if len(l) > limit and not l.startswith("__all__")]
def long_in_page(path): return [l for text in code(path) for l in long_lines(text, PAGE_LINE)]
def long_in_chapter(path): return [l for text in code(path) for l in long_lines(text, CODE_LINE)]
def too_many_cells(path): return ["cell"] * max(0, len(cells(path)) - CELLS)
def long_exports(path): return [text.splitlines()[1] for text in code(path) if exported(text) and len(body(text).splitlines()) > EXPORTED]


def prose_share(path):
    "Cells of prose among those that a reader sees."
    seen = [c for c in cells(path) if c["cell_type"] == "markdown" or (c["cell_type"] == "code" and not re.match(r"#\| *(hide|default_exp)", source(c)))]
    return sum(c["cell_type"] == "markdown" for c in seen) / max(1, len(seen))


def little_prose(path): return [f"{prose_share(path):.0%} prose"] if prose_share(path) < PROSE else []


SHAPE = re.compile(r"#\s*(?:list of )?`\[[a-z_, ]+\]`")


def unshaped(path):
    "Arguments of public functions that are tensors by their annotation or by the comment beside them, and whose shape no type says."
    found = []
    for text in filter(exported, code(path)):
        lines = body(text).splitlines()
        for node in ast.walk(tree(text)):
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"): continue
            for arg in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]:
                note = ast.unparse(arg.annotation) if arg.annotation else ""
                told = SHAPE.search(lines[arg.lineno - 1]) and lines[arg.lineno - 1].strip().startswith(arg.arg)
                if note in ("torch.Tensor", "Tensor", "np.ndarray") or (told and not note): found.append(f"{node.name}({arg.arg})")
    return found


def defined(path):
    "Public names at the top level of a module."
    names = []
    for node in ast.parse(Path(path).read_text(encoding="utf-8")).body:
        grown = any("patch" in ast.unparse(d) for d in getattr(node, "decorator_list", ()))   # a method that its class is given later
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not grown: names.append(node.name)
        if isinstance(node, ast.Assign): names += [n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)]
    return {n for n in names if not n.startswith("_")}


def defined_twice(root=ROOT):
    "Names that several modules define, without those that may."
    where = defaultdict(list)
    for path in modules(root):
        for name in defined(path): where[name].append(path.stem)
    return {name: found for name, found in sorted(where.items()) if len(found) > 1 and name not in TWICE}


RULES = {"no program in a page": (pages, programs), "lines of a page": (pages, long_in_page), "lines of a chapter": (lessons, long_in_chapter),
    "cells of a notebook": (lambda root=ROOT: [*pages(root), *lessons(root)], too_many_cells), "lines of an exported cell": (chapters, long_exports),
    "prose of a chapter": (lambda root=ROOT: [*pages(root), *lessons(root)], little_prose), "shapes of tensors": (chapters, unshaped)}


def faults(rule, root=ROOT):
    "Faults of one rule, by file."
    files, find = RULES[rule]
    return {p.name: found for p in files(root) if (found := find(p))}


def words(text): return len(re.findall(r"[A-Za-z]{2,}", text))


def measured(root=ROOT):
    "The table of what a reader of the code meets: `thing, today, wanted`."
    page = pages(root)
    strings = [n.value for p in page for t in code(p) for n in ast.walk(tree(t)) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    prose = [source(c) for p in page for c in cells(p) if c["cell_type"] == "markdown"]
    lines = [l for p in page for t in code(p) for l in t.splitlines()]
    masks = [p.stem for p in [*modules(root), *page] if re.search(r"""experiment["\]]* *==|\.experiment\.isin""", p.read_text(encoding="utf-8"))]
    brackets = sum(len(re.findall(r"\[\{[^}]+\}, \{[^}]+\}\]", m.read_text(encoding="utf-8"))) for m in [*modules(root), *page])
    spaced = sum(len(re.findall(r"L\{[^}]+\} H\{", m.read_text(encoding="utf-8"))) for m in [*modules(root), *page])
    makers = [p.name for p in [*chapters(root), *sorted((root / "tests").glob("*.py"))] if re.search(r"dict\(.{0,60}experiment=.{0,200}token_index=", p.read_text(encoding="utf-8"), re.S) and "schema" not in p.name]
    one_letter = Counter(p.stem for p in modules(root) for f in ast.walk(ast.parse(p.read_text(encoding="utf-8"))) if isinstance(f, ast.FunctionDef)
        for n in ast.walk(f) if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name) and len(t.id) == 1)
    return [
        ("functions and named lambdas in pages", sum(len(programs(p)) for p in page), 0),
        ("lines of pages over 110 characters", f"{sum(map(len, map(long_in_page, page)))} of {len(lines)}, longest {max(map(len, lines))}", 0),
        ("words in prose / in strings of code, pages", f"{sum(map(words, prose))} / {sum(map(words, strings))}", "prose"),
        ("prose cells, compare / battery", " / ".join(f"{prose_share(root / f'nbs/reports/{n}.ipynb'):.0%}" for n in ("compare", "battery")), "a quarter"),
        ("files that compare ids of experiments themselves", f"{len(masks)} ({', '.join(masks)})", 1),
        ("makers of hand-made rows of the table of patches, beside `by_hand`", f"{len(makers)} ({', '.join(makers)})", 0),
        ("intervals in square brackets / heads as `L12 H2`", f"{brackets} / {spaced}", "0 / 0"),
        ("names defined in two modules or more", f"{len(defined_twice(root))} ({', '.join(defined_twice(root))})", 0),
        ("notebooks over 60 cells", f"{len(faults('cells of a notebook', root))} ({', '.join(faults('cells of a notebook', root))})", 0),
        ("lines of chapters over 120 characters", sum(map(len, faults("lines of a chapter", root).values())), 0),
        ("exported cells over 30 lines", sum(map(len, faults("lines of an exported cell", root).values())), 0),
        ("chapters and pages with less than a quarter of prose", f"{len(faults('prose of a chapter', root))} ({', '.join(faults('prose of a chapter', root))})", 0),
        ("tensor arguments without a shape", sum(map(len, faults("shapes of tensors", root).values())), 0),
        ("assignments to one-letter names in functions", sum(one_letter.values()), "few"),
    ]


if __name__ == "__main__":
    for thing, today, wanted in measured(): print(f"{thing}: {today} (wanted: {wanted})")
