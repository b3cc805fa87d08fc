"""Ways to install the package: a clone, a wheel, and a Python that has what pip would bring."""
import os
import shutil
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from .house import ROOT

PIP = [sys.executable, '-m', 'pip']
# nothing is asked of the network: what is needed is here
OFFLINE = ['--quiet', '--no-deps', '--no-build-isolation', '--disable-pip-version-check']


def copy_clone(folder: Path) -> Path:
    """What a build needs of the repository, in another folder."""
    for name in ('nbs', 'sparse_probing', 'pyproject.toml', 'README.md', 'LICENSE'):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    return folder


def build_wheel(folder: Path) -> Path:
    """A wheel of the repository."""
    clone = folder / 'clone'
    clone.mkdir()
    subprocess.run([*PIP, 'wheel', *OFFLINE, '-w', folder, copy_clone(clone)], check=True,
                   capture_output=True)
    return next(folder.glob('*.whl'))


def make_python(folder: Path, packages: Path) -> Path:
    """A Python of its own that sees the packages of a folder."""
    venv.create(folder / 'venv')
    python = folder / 'venv/bin/python'
    ask = [python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))']
    purelib = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    (Path(purelib) / 'packages.pth').write_text(str(packages))
    return python


def install(python: Path, *words) -> None:
    # a path that is set would show pip what is installed elsewhere
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    subprocess.run([*PIP, '--python', python, 'install', *OFFLINE, *words], check=True,
                   capture_output=True, env=environment)


def brought_by(requirements: list[Requirement], extra: str = '') -> set[str]:
    """The names of the packages that pip would install for some requirements."""
    names, seen = set(), set()
    queue = [(requirement, {extra}) for requirement in requirements]
    while queue:
        requirement, extras = queue.pop()
        holds = not requirement.marker or any(requirement.marker.evaluate({'extra': e})
                                              for e in extras)
        key = requirement.name, frozenset(requirement.extras)
        if not holds or key in seen: continue
        seen.add(key)
        try: package = metadata.distribution(requirement.name)
        except metadata.PackageNotFoundError: continue # for another platform
        names.add(package.name)
        queue += [(Requirement(line), {'', *requirement.extras}) for line in package.requires or []]
    return names


def link_packages(names: set[str], folder: Path) -> Path:
    """A folder that holds some of the packages of this Python, and no others."""
    folder.mkdir()
    for name in names:
        package = metadata.distribution(name)
        for top in {file.parts[0] for file in package.files} - {'..', '__pycache__', 'bin'}:
            if not (folder / top).exists(): (folder / top).symlink_to(package.locate_file(top))
    return folder
