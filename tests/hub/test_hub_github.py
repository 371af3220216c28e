"""torch.hub as users call it: unchanged, over HTTPS, from `git archive`, in a bare environment."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zoo

from .client import ROOT
from .github import GitHub, make_certificates, serving
from .server import closed_network

REPO = "acme/convattn-zoo"
TAGS = ("v1.0.0", "v1.1.0")
SELECTED = zoo.get_record("convit_nano.digits").weights[0]
DISTRIBUTIONS = {"PIL": "pillow"}  # import name -> distribution, where they differ

# Both tags in one process that holds other packages of our names; then what must fail.
USE = """
import importlib.util, json, sys
import zoo, export, models, utils
import torch

def load(release, **options):
    options = {"trust_repo": True, "verbose": False, **options}
    return torch.hub.load("acme/convattn-zoo:" + release, "convit_nano", **options)

def error(function, *arguments, **options):
    try:
        function(*arguments, **options)
        return ""
    except BaseException as caught:
        return f"{type(caught).__name__}: {caught}"

options = {"pretrained": True, "tag": sys.argv[2], "version": sys.argv[3]}
models_ = [load(release, **options).eval() for release in ("v1.0.0", "v1.1.0")]
packages = [sys.modules[type(model).__module__.partition(".")[0]] for model in models_]
cfg = models_[0].pretrained_cfg
x = cfg.transform()(sys.argv[1])[None]
answers = [cfg.labels[int(model(x).argmax())] for model in models_]
result = {
    "versions": [package.__version__ for package in packages],
    "answers": answers,
    "digest": cfg.sha256,
    "foreign": [module.MARK for module in (zoo, export, models, utils)],
    "absent": [n for n in ("timm", "onnx", "onnxruntime") if importlib.util.find_spec(n)],
    "help": torch.hub.help("acme/convattn-zoo:v1.0.0", "convit_tiny", trust_repo=True),
    "unknown tag": error(load, "v9.9.9"),
    "untrusted": error(load, "v1.2.0", trust_repo=False),
    "no keyword": error(load, "v1.0.0", num_clases=3),
}
print("\\n" + json.dumps(result))  # the prompt for trust ends without a line break
"""

LIMITED = """
import json
import torch
def load(**options):
    try:
        torch.hub.load("acme/convattn-zoo:v1.0.0", "convit_nano", trust_repo=True, verbose=False,
                       pretrained=False, force_reload=True, **options)
        return "loaded"
    except Exception as error:
        return type(error).__name__
print(json.dumps([load(), load(skip_validation=True)]))
"""


def archives(folder: Path) -> dict[str, bytes]:
    """`git archive` of what this checkout would commit, under two tags."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    command += ["hubconf.py", "zoo"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)

    def git(*arguments: str) -> bytes:
        who = ("-c", "user.name=t", "-c", "user.email=t@localhost")
        return subprocess.run(
            ["git", *who, *arguments], cwd=folder, check=True, capture_output=True
        ).stdout

    git("init", "-q")
    found = {}
    for tag in TAGS:
        init = folder / "zoo" / "__init__.py"
        text = re.sub(r'__version__ = "[^"]*"', f'__version__ = "{tag}"', init.read_text("utf-8"))
        init.write_text(text, "utf-8")
        git("add", "-A")
        git("commit", "-q", "-m", tag)
        git("tag", tag)
        found[tag] = git("archive", "--format=zip", f"--prefix=acme-convattn-zoo-{tag}/", tag)
    return found


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("the command openssl is needed to make certificates")
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def github(
    certificates: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GitHub]:
    _, certificate, key = certificates
    with serving(REPO, archives(tmp_path_factory.mktemp("git")), certificate, key) as server:
        yield server


def bare_site(folder: Path) -> Path:
    """A folder with nothing but hubconf's `dependencies` and what they need."""
    text = (ROOT / "hubconf.py").read_text()
    [stated] = re.findall(r"^dependencies = (.*)", text, re.MULTILINE)
    wanted = [DISTRIBUTIONS.get(name, name) for name in json.loads(stated)]
    seen: set[str] = set()
    folder.mkdir(parents=True)
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # for another system or Python
        for top in {file.parts[0] for file in found.files or () if file.parts[0] != ".."}:
            link = folder / top
            if top != "__pycache__" and not link.exists():
                link.symlink_to(found.locate_file(top))
        needs = [need for need in found.requires or () if "extra ==" not in need]
        wanted += [re.split(r"[^A-Za-z0-9._-]", need)[0] for need in needs]
    return folder


def run(script: str, folder: Path, github: GitHub, ca: Path, *arguments: str, **more: str) -> Any:
    """Run a script without any site-packages; its JSON output."""
    for name in ("zoo", "export", "models", "utils"):
        (folder / f"{name}.py").write_text(f'MARK = "foreign {name}"\n')
    site = folder / "site"
    environment = {
        **closed_network(folder),
        "https_proxy": github.address,
        "no_proxy": "",
        "SSL_CERT_FILE": str(ca),
        "TORCH_HOME": str(folder / "torch"),
        "PYTHONPATH": str(site if site.exists() else bare_site(site)),
        "OMP_NUM_THREADS": "1",
        **more,
    }
    done = subprocess.run(
        [sys.executable, "-S", "-W", "error", "-c", script, *arguments],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=180,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def used(
    github: GitHub, certificates: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("user")
    scan = str(ROOT / "examples" / "digit_7.png")
    which = (SELECTED.tag, SELECTED.version)
    result = run(USE, folder, github, certificates[0], scan, *which)
    return {**result, "folder": folder}


def test_hub_tags_load_side_by_side_from_git_archives(used: dict[str, Any]) -> None:
    assert used["versions"] == list(TAGS)
    assert used["answers"] == ["7", "7"]
    assert used["digest"] == SELECTED.sha256
    assert used["foreign"] == [f"foreign {n}" for n in ("zoo", "export", "models", "utils")]


def test_hub_models_need_nothing_but_the_stated_dependencies(used: dict[str, Any]) -> None:
    assert used["absent"] == []


def test_hub_asks_github_only_and_in_the_known_order(used: dict[str, Any], github: GitHub) -> None:
    assert used["answers"]
    assert github.unhandled == []
    path = f"/{REPO}"
    assert github.log[:4] == [
        f"api.github.com/repos{path}/branches",
        f"api.github.com/repos{path}/branches",
        f"api.github.com/repos{path}/tags",
        f"github.com{path}/zipball/v1.0.0",
    ]


def test_hub_help_and_errors_are_readable(used: dict[str, Any]) -> None:
    assert "gated positional" in used["help"]
    assert used["unknown tag"].startswith("ValueError: Cannot find v9.9.9")
    assert used["untrusted"].startswith("EOFError")
    assert "num_classes" in used["no keyword"]


def test_hub_loads_a_cached_tag_without_any_request(
    used: dict[str, Any], github: GitHub, certificates: tuple[Path, Path, Path]
) -> None:
    before = len(github.log)
    script = USE[: USE.index("options = ")] + "load('v1.1.0')\nprint(json.dumps('ok'))\n"
    assert run(script, used["folder"], github, certificates[0]) == "ok"
    assert github.log[before:] == []


def test_hub_validation_can_be_skipped_where_github_limits_the_rate(
    github: GitHub, certificates: tuple[Path, Path, Path], used: dict[str, Any]
) -> None:
    """torch.hub hides GitHub's answer behind a KeyError unless GITHUB_TOKEN is set."""
    github.rate_limited = True
    try:
        failed, loaded = run(LIMITED, used["folder"], github, certificates[0])
    finally:
        github.rate_limited = False
    assert failed in ("KeyError", "HTTPError")
    assert loaded == "loaded"
