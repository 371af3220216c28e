"""What a release writes into the package: addresses of the repository that makes it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "https://forge.example/org/name"


def test_links_and_pictures_of_the_package_lead_to_the_repository_that_released_it(
    tmp_path: Path,
) -> None:
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    command = [sys.executable, ROOT / ".ci" / "addresses", ADDRESS, "v1.2.3"]
    subprocess.run(command, cwd=tmp_path, check=True)
    links = re.findall(r"\]\(([^()\s]+)\)", (tmp_path / "README.md").read_text("utf-8"))
    assert len(links) > 10
    assert all(link.startswith(("https://", "#")) for link in links)
    ours = [link.removeprefix(ADDRESS) for link in links if link.startswith(ADDRESS)]
    assert "/raw/v1.2.3/docs/images/predictions.png" in ours
    assert "/blob/v1.2.3/LICENSE" in ours
    for link in ours:
        assert (ROOT / link.split("/", 3)[3]).exists(), link
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["urls"]["Repository"] == ADDRESS
    assert project["urls"]["Changelog"] == f"{ADDRESS}/blob/v1.2.3/CHANGELOG.md"


def test_actions_of_others_are_pinned_by_commit() -> None:
    used = [
        line.split("uses:")[1].split()[0]
        for path in (ROOT / ".github" / "workflows").glob("*.yml")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "uses:" in line
    ]
    assert used
    assert [name for name in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name)] == []
