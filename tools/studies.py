"""Make the two finished studies that the site shows: `make studies`, some minutes."""
import subprocess
import sys
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory

from tools.sync import ROOT

KEPT = ROOT / 'nbs/studies'
WORDS = { # name of the page -> what is asked
    'article': ['--target', ' the', '--target', ' an'],
    'reviews': ['--task', 'movie_sent'],
}


def main() -> None:
    """Run each study as a user does, and keep its page."""
    command = Path(sys.executable).with_name('sparse-probing')
    KEPT.mkdir(exist_ok=True)
    for name, words in WORDS.items():
        with TemporaryDirectory() as folder:
            subprocess.run([command, 'study', *words], cwd=folder, check=True)
            copyfile(Path(folder) / 'report/study/study.html', KEPT / f'{name}.html')


if __name__ == '__main__': main()
