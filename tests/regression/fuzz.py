"""Give damaged files to every reader, guided by coverage (atheris) or at random.

    python tests/regression/fuzz.py --minutes 30 --seed 1 --kept DIRECTORY

One process; every target in turn. Inputs that raise what is no error of ours, hang or are accepted
with numbers that are not finite are kept in DIRECTORY/findings; counts are printed. With atheris
(`pip install atheris`) inputs that reach new code are kept in DIRECTORY/corpus and mutated further.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

try:
    import atheris
except ImportError:
    atheris = None
if atheris is not None:
    with atheris.instrument_imports(include=["mld_ff"], exclude=["mld_ff.cli"]):
        from fuzzing import Target, give, mutated, targets
else:
    from fuzzing import Target, give, mutated, targets

ROUND_S = 5.0
"""That a target has until the next one's turn."""


class Hunt:
    """One process that looks for inputs that readers do not refuse properly."""

    def __init__(self, kept: Path, seed: int) -> None:
        self.kept, self.rng = kept, random.Random(seed)
        self.inputs, self.accepted, self.findings = Counter[str](), Counter[str](), Counter[str]()

    def give(self, name: str, target: Target, content: bytes, directory: Path) -> None:
        self.inputs[name] += 1
        try:
            self.accepted[name] += give(target, content, directory)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            ours = [f for f in frames if "mld_ff" in f.filename] or frames
            where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
            said = f"{name}: {type(error).__name__} at {where}: {str(error)[:100]}"
            key = f"{type(error).__name__} {where}"
            self.findings[key] += 1
            if self.findings[key] == 1:
                folder = self.kept / "findings"
                folder.mkdir(parents=True, exist_ok=True)
                digest = hashlib.sha256(content).hexdigest()[:12]
                (folder / f"{target.name}-{digest}").write_bytes(content)
                print(said, f"({digest})", flush=True)

    def at_random(self, name: str, target: Target, until: float, directory: Path) -> None:
        """Mutants of the seed and of what was kept of earlier runs."""
        pool = [target.seed, *_corpus(self.kept, name)]
        while time.monotonic() < until:
            for _ in range(50):
                self.give(name, target, mutated(self.rng.choice(pool), self.rng), directory)

    def told(self) -> str:
        return json.dumps(
            {
                "inputs": sum(self.inputs.values()),
                "accepted": sum(self.accepted.values()),
                "findings": dict(self.findings),
                "by target": dict(self.inputs),
            }
        )


def _corpus(kept: Path, name: str) -> list[bytes]:
    folder = kept / "corpus" / name.replace("/", "_").replace(" ", "_")
    return [f.read_bytes() for f in sorted(folder.glob("*"))[:2000]] if folder.is_dir() else []


def guided(hunt: Hunt, name: str, seconds: int, seed: int) -> None:
    """libFuzzer on one target; it ends the process, which reports before."""
    target = targets()[name]
    folder = hunt.kept / "corpus" / name.replace("/", "_").replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "seed").write_bytes(target.seed)
    directory = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    began = time.monotonic()

    def one(content: bytes) -> None:
        hunt.give(name, target, content, directory)
        if time.monotonic() - began > seconds:
            print(hunt.told(), flush=True)
            os._exit(0)

    def mutate(content: bytes, most: int, draw: int) -> bytes:
        rng = random.Random(draw)
        if rng.random() < 0.5:
            return bytes(atheris.Mutate(content, most))
        return mutated(content, rng)[:most]

    options = [f"-seed={seed}", "-max_len=200000", "-rss_limit_mb=4000", "-timeout=600"]
    atheris.Setup([sys.argv[0], str(folder), *options], one, custom_mutator=mutate)
    atheris.Fuzz()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=1.0)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--kept", type=Path, default=Path("fuzzed"))
    options.add_argument("--guided", metavar="TARGET", help="Only this one, by coverage.")
    chosen = options.parse_args()
    hunt = Hunt(chosen.kept, chosen.seed)
    if chosen.guided:
        guided(hunt, chosen.guided, int(60 * chosen.minutes), chosen.seed)
    end = time.monotonic() + 60 * chosen.minutes
    while time.monotonic() < end:
        for name, target in targets().items():
            with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
                until = min(end, time.monotonic() + ROUND_S)
                hunt.at_random(name, target, until, Path(directory))
        print(hunt.told(), flush=True)


if __name__ == "__main__":
    main()
