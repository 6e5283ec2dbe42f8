"""An installed package is whole: the profiles and tables travel with it."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_an_installed_dreamseed_has_its_profiles_and_tables(tmp_path: Path) -> None:
    """Built as a wheel, unpacked elsewhere, it lists and checks the same profiles as the checkout."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    installed = tmp_path / "installed"
    zipfile.ZipFile(next(tmp_path.glob("*.whl"))).extractall(installed)
    figures = installed / "dreamseed_cli/_benchmarks/estimates.toml"
    assert figures.read_bytes() == (ROOT / "benchmarks/estimates.toml").read_bytes()
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    for arguments in (["list"], ["check", "rtx5090x3"]):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "dreamseed_cli", "profile", *arguments, "--json"],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
            cwd=tmp_path,
        )
        data = json.loads(done.stdout)["data"]
        if arguments == ["list"]:
            assert Path(data["directory"]).is_relative_to(installed)
            names = {profile["name"] for profile in data["profiles"]}
            assert names == {path.stem for path in (ROOT / "profiles").glob("*.toml")}
        else:
            assert data["computed_per_card"]["kv_cache_tokens"] > 0
