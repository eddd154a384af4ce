"""The archive that the registry takes: what .comfyignore leaves of the tracked files. It runs in a real
server without the rest of the repository, and keeps the registry's rules.
"""

import ast
import json
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

import pytest

from tests.lacking import lacking, need_browser
from tests.live.canvas import LISTEN, SHOTS
from tools.derive import snapshot
from tools.hosting import archive
from tools.hosting.browser import open_page, show
from tools.hosting.host import find_host

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ".safetensors"  # the demo's, which the archive has for inference alone
MEGABYTE = 1_000_000
with (ROOT / "pyproject.toml").open("rb") as file:
    PROJECT = tomllib.load(file)


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """The paths of the repository's files."""
    if not (ROOT / ".git").exists():
        lacking("the archive is made of tracked files, and this is no git clone")
    return archive.tracked_files()


@pytest.fixture(scope="module")
def files(tracked) -> list[str]:
    """The paths of the archive's files."""
    return archive.archive_files()


@pytest.fixture(scope="module")
def sources(files) -> dict[str, bytes]:
    """The archive's Python files by path."""
    return {path: (ROOT / path).read_bytes() for path in files if path.endswith(".py")}


@pytest.fixture(scope="module")
def installed(files, tmp_path_factory):
    """A server with the archive's files under custom_nodes, in a folder named as the registry names it."""
    assert PROJECT["project"]["name"] == archive.NAME
    with archive.installed(tmp_path_factory.mktemp("installed")) as server:
        (pack,) = (server.base / "custom_nodes").iterdir()
        assert not pack.is_symlink() and not (pack / "demo" / "training").exists()
        yield server


TRIES = sorted(path.stem for path in (ROOT / "workflows").glob("* Try it*.json"))


def test_the_archive_is_the_pack_alone(files):
    tops = {path.partition("/")[0] for path in files}
    assert not tops & {"tests", "tools", "benchmarks", "noxfile.py", ".ci"}
    assert not [path for path in files if path.startswith("demo/training/")]
    assert tops >= {
        "__init__.py",
        "demo",
        "nodes",
        "zsamb_core",
        "web",
        "workflows",
        "pyproject.toml",
        "LICENSE",
    }
    kinds = {Path(path).suffix for path in files}
    plain = {".py", ".md", ".json", ".yaml", ".toml", ".txt", ".svg", ".png", ".jpg", ".js", ""}
    assert kinds == {*plain & kinds, WEIGHTS}


def test_the_archive_is_small(files):
    sizes = {path: (ROOT / path).stat().st_size for path in files}
    weights = {path: sizes.pop(path) for path in files if path.endswith(WEIGHTS)}
    assert sum(sizes.values()) < 3 * MEGABYTE, sorted(sizes, key=sizes.get)[-5:]
    assert 20 * MEGABYTE < sum(weights.values()) < 45 * MEGABYTE and len(weights) == 6


def test_the_registry_s_own_tool_validates_and_packs_it(files, comfy_cli, tmp_path):
    """comfy-cli's checks before publishing; and its archive is what the other tests here look at."""
    pack = tmp_path / "pack"
    for path in [*files, ".comfyignore", "tests/conftest.py", "demo/training/train_vae.py"]:
        (pack / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, pack / path)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@localhost"]
    for command in (["init", "-q"], ["add", "-A", "-f"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], cwd=pack, check=True)
    done = comfy_cli("node", "validate", cwd=pack)
    output = done.stdout + done.stderr
    assert (
        done.returncode == 0 and "All validation checks passed" in output and "warning" not in output.lower()
    )
    done = comfy_cli("node", "pack", cwd=pack)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(pack / "node.zip") as archive:
        assert sorted(archive.namelist()) == sorted(files)


def test_import_guard_finds_all_that_is_imported_in_the_host(tracked, checker, tmp_path):
    """comfy-import-guard, offline, on the whole repository and this host. It wants the host as a clone."""
    host, guarded = find_host(), tmp_path / "guard" / "ComfyUI"
    for path in host.rglob("*.py"):
        place = path.relative_to(host)
        if place.parts[0] not in ("custom_nodes", "models") and not place.parts[0].startswith("."):
            (guarded / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, guarded / place)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@localhost"]
    for command in (["init", "-q"], ["add", "-A", "-f"], ["commit", "-qm", "x"], ["tag", "found"]):
        subprocess.run([*git, *command], cwd=guarded, check=True)
    for path in tracked:
        if path.endswith(".py"):
            target = tmp_path / "host" / "custom_nodes" / "z-samb" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, target)
    done = checker(
        "comfy-import-guard", "--cache-dir", guarded.parent, "--offline", "--json", "check", "--comfy-dir",
        tmp_path / "host", "--no-update", "--target", "found", "--strict",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (report,) = json.loads(done.stdout)["packs"]
    assert report["verdict"] == "SAFE" and report["references"] > 200 and not report["unparseable"]


def test_comfy_test_s_lint_passes(files, checker, tmp_path):
    """On the archive: the demo's training, which it leaves out, is plain torch."""
    for path in files:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, tmp_path / path)
    done = checker("comfy-test", "lint", ".", cwd=tmp_path)
    output = done.stdout + done.stderr
    assert done.returncode == 0 and output.count("PASSED") == 2 and "FAILED" not in output, output


@pytest.mark.live
def test_it_loads_without_a_word(installed):
    log, started, _ = installed.log.read_text().partition("Starting server")
    assert started and re.search(r"seconds: .*custom_nodes.z-samb", log)
    assert "IMPORT FAILED" not in log and "Traceback" not in log
    ours = [line.strip() for line in log.splitlines() if re.search(r"custom_nodes.z-samb|zsamb", line, re.I)]
    assert [line for line in ours if not re.search(r"seconds: .*custom_nodes.z-samb$", line)] == []


@pytest.mark.live
def test_every_node_is_there_as_in_the_repository(installed):
    """So workflows made with the one open in the other."""
    public = snapshot.public(installed.get("/object_info"))
    assert snapshot.differences(json.loads(snapshot.FILE.read_text()), public) == []


@pytest.mark.live
def test_the_demo_s_models_are_offered(installed):
    info = installed.get("/object_info/ZSAMB_LoadVisionModel")["ZSAMB_LoadVisionModel"]
    _, options = info["input"]["required"]["name"]
    assert options["options"] == ["facebook/dino-vitb8", "demo DINO", "demo CLIP"]
    info = installed.get("/object_info/ZSAMB_LoadIPAdapter")["ZSAMB_LoadIPAdapter"]
    assert info["input"]["required"]["file"][1]["options"] == ["demo IP-Adapter"]


def run(server, loader, **inputs):
    return server.run({
        "1": {"class_type": loader, "inputs": inputs, "_meta": {"title": loader}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}, "_meta": {"title": "Preview"}},
    })  # fmt: skip


@pytest.mark.live
@pytest.mark.parametrize(
    "node, inputs",
    [("LoadDemoModel", {}), ("LoadVisionModel", {"name": "demo CLIP"}),
     ("LoadVisionModel", {"name": "demo DINO"}), ("LoadIPAdapter", {"file": "demo IP-Adapter"})],
)  # fmt: skip
def test_the_demo_s_models_load(installed, node, inputs):
    run(installed, f"ZSAMB_{node}", **inputs)


@pytest.mark.live
def test_the_template_browser_lists_the_workflows(installed, files):
    shipped = sorted(Path(p).stem for p in files if re.fullmatch(r"workflows/[^/]*\.json", p))
    assert shipped and sorted(installed.get("/workflow_templates")["z-samb"]) == shipped
    assert installed.get(f"/api/workflow_templates/z-samb/{urllib.parse.quote(shipped[0])}.json")["nodes"]
    # The front end shows a picture of the same name.
    for name in shipped:
        address = f"{installed.url}/api/workflow_templates/z-samb/{urllib.parse.quote(name)}.jpg"
        with urllib.request.urlopen(address) as picture:
            assert picture.headers["Content-Type"] == "image/jpeg"


@pytest.mark.live
def test_a_first_graph_draws_at_one_click(installed):
    """Each opens without an error, and Run is the only other gesture."""
    need_browser()
    SHOTS.mkdir(parents=True, exist_ok=True)
    with open_page(installed.url) as page:
        for name in TRIES:
            page.errors.clear()
            show(page, page.request.get(f"/api/workflow_templates/z-samb/{name}.json").json())
            page.screenshot(path=SHOTS / f"{name} opened.png")
            page.evaluate(LISTEN)
            page.get_by_test_id("queue-button").click()
            page.wait_for_function("() => finished === 1", timeout=120_000)
            arrived = page.evaluate("() => arrived")
            assert {len(arrived[key]["images"]) for key in ("24", "25")} == {4}
            assert page.evaluate("() => app.graph._nodes.filter((n) => n.has_errors).length") == 0
            assert [text for kind, text in page.errors if kind == "script" or "zsamb" in text.lower()] == []
            page.screenshot(path=SHOTS / f"{name} drawn.png")


@pytest.mark.live
def test_every_node_s_help_page_is_served(installed):
    for node in json.loads(snapshot.FILE.read_text()):
        with urllib.request.urlopen(f"{installed.url}/extensions/z-samb/docs/{node}.md", timeout=30) as page:
            assert page.read() == (ROOT / "web" / "docs" / f"{node}.md").read_bytes()


# What the registry's review refuses: code made of text, code fetched and run, packages installed by a node.
REFUSED_CALLS = {"eval", "exec", "compile", "__import__"}
REFUSED_MODULES = {"subprocess", "pip", "marshal", "code", "pty", "ctypes", "multiprocessing"}
REFUSED_OF_OS = re.compile(r"system|popen|startfile|exec\w+|spawn\w+|posix_spawn\w*|fork\w*")
UNSAFE_LOADERS = {("pickle", "load"), ("pickle", "loads"), ("yaml", "load"), ("yaml", "unsafe_load")}


def refused(source: str | bytes) -> list[str]:
    """What breaks the rules, each with its line."""
    problems = []
    for node in ast.walk(ast.parse(source)):
        for reason in _refused_in(node):
            problems.append(f"line {node.lineno}: {reason}")
    return problems


def _refused_in(node: ast.AST):
    if isinstance(node, ast.Import):
        yield from (a.name for a in node.names if a.name.partition(".")[0] in REFUSED_MODULES)
    elif isinstance(node, ast.ImportFrom) and not node.level:
        module = node.module.partition(".")[0]
        if module in REFUSED_MODULES:
            yield node.module
        yield from (
            f"{module}.{a.name}"
            for a in node.names
            if (module == "os" and REFUSED_OF_OS.fullmatch(a.name)) or (module, a.name) in UNSAFE_LOADERS
        )
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in REFUSED_CALLS:
        yield node.func.id
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        name = node.func.attr
        owner = node.func.value.id if isinstance(node.func.value, ast.Name) else None
        if (owner == "os" and REFUSED_OF_OS.fullmatch(name)) or (owner, name) in UNSAFE_LOADERS:
            yield f"{owner}.{name}"
        if owner == "builtins" and name in REFUSED_CALLS:
            yield f"{owner}.{name}"
        if (owner, name) == ("torch", "load") and not any(
            k.arg == "weights_only" and isinstance(k.value, ast.Constant) and k.value.value is True
            for k in node.keywords
        ):
            yield "torch.load without weights_only=True"


def test_no_file_runs_text_or_installs_anything(sources):
    assert {path: problems for path, text in sources.items() if (problems := refused(text))} == {}


def test_every_file_can_be_read(sources):
    """Packed or encoded code comes as long lines, or as other than plain text."""
    longest = {
        path: max(map(len, text.decode("ascii").splitlines()), default=0) for path, text in sources.items()
    }
    assert {path: length for path, length in longest.items() if length > 120} == {}


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "exec(text)",
        "import builtins\nbuiltins.exec(text)",
        "__import__('os')",
        "import subprocess",
        "from subprocess import run",
        "import pip._internal",
        "import os\nos.system('pip install torch')",
        "import os\nos.execv(path, [])",
        "from os import popen",
        "def run():\n    import subprocess as s\n    s.run([])",
        "import pickle\npickle.loads(data)",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "import yaml\nyaml.load(text)",
    ],
)
def test_the_rules_find_what_breaks_them(source):
    assert len(refused(source)) == 1


def test_the_rules_let_the_rest_through():
    plain = "import os, re\nos.environ.get('x')\nre.compile('a')\nmodel.eval()\nfrom .pip import name\n"
    assert refused(plain + "torch.load(path, map_location='cpu', weights_only=True)") == []


def test_nothing_is_installed_with_the_pack(files):
    """The registry installs requirements.txt and runs install.py; ComfyUI has all that the pack needs."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if line.strip() and not line.startswith("#")] == []
    assert PROJECT["project"]["dependencies"] == []
    assert not {"install.py", "uninstall.py", "prestartup_script.py"} & set(files)


def test_the_registry_s_fields_are_there(files):
    project, comfy = PROJECT["project"], PROJECT["tool"]["comfy"]
    # Lower case, a letter first, no two signs together, not "comfyui" itself; part of the pack's address.
    assert re.fullmatch(r"[a-z](?:[._-]?[a-z0-9])*", project["name"]) and len(project["name"]) < 100
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert (ROOT / project["license"]["file"]).is_file() and project["license"]["file"] in files
    assert 20 <= len(project["description"]) <= 500 and project["readme"] in files
    assert re.fullmatch(r">=3\.\d+", project["requires-python"])
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]*", comfy["PublisherId"]) and comfy["DisplayName"] == "Z-SAMB"
    assert re.fullmatch(r">=\d+\.\d+\.\d+", comfy["requires-comfyui"])
    assert {c.partition(" :: ")[0] for c in project["classifiers"]} == {"Operating System", "Environment"}
