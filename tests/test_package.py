"""The package as a whole: what it declares, what it imports, and in which order."""
import ast
import configparser
import importlib
import shutil
import subprocess
import sys
import tomllib
from zipfile import ZipFile

import pytest
import sparse_probing
from notebooks import ROOT

PYPROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())
SETTINGS = configparser.ConfigParser()
SETTINGS.read(ROOT / 'settings.ini')
LESSONS = list(sparse_probing.PUBLIC)


def test_settings_and_pyproject_agree():
    project, settings = PYPROJECT['project'], SETTINGS['DEFAULT']
    assert project['name'] == settings['lib_name']
    assert project['description'] == settings['description']
    assert project['requires-python'] == f">={settings['min_python']}"
    assert sparse_probing.__version__ == settings['version']
    assert ', '.join(project['keywords']) == settings['keywords']


def test_every_import_is_declared_and_every_requirement_used():
    names = {'accelerate', 'gguf', 'ipykernel', 'safetensors', 'scipy'}  # used by name only, through transformers, papermill and scikit-learn
    declared, peers = ({d.split('>')[0].lower().replace('-', '_') for d in part} for part in (PYPROJECT['project']['dependencies'], [*PYPROJECT['project']['optional-dependencies']['bench'], *PYPROJECT['project']['optional-dependencies']['ray']]))
    renamed = {'sklearn': 'scikit_learn'}
    for path in (ROOT / 'sparse_probing').glob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            names |= {renamed.get(m.split('.')[0], m.split('.')[0]) for m in modules}
    assert names - set(sys.stdlib_module_names) - {'sparse_probing'} - peers == declared


def test_import_loads_nothing_heavy():
    code = 'import sparse_probing, sys; print(*[m for m in ("torch", "transformers", "sklearn", "matplotlib", "pandas", "numpy") if m in sys.modules])'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == ''


@pytest.mark.parametrize('module', LESSONS)
def test_public_names_are_there_and_documented(module):
    for name in sparse_probing.PUBLIC[module]:
        thing = getattr(sparse_probing, name)
        assert thing is getattr(importlib.import_module(f'sparse_probing.{module}'), name) and thing.__doc__


def imported(module):
    tree = ast.parse((ROOT / f'sparse_probing/{module}.py').read_text())
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and (node.level or node.module.startswith('sparse_probing'))]
    return {name for node in froms for name in ([(node.module or '').split('.')[-1]] if node.module not in (None, 'sparse_probing') else [a.name for a in node.names])}


@pytest.mark.parametrize('module', LESSONS)
def test_a_lesson_imports_only_earlier_lessons_and_plots(module):
    assert imported(module) <= {*LESSONS[:LESSONS.index(module)], 'plots', 'fingerprints', 'jobs'}


def test_the_two_wings_know_nothing_of_each_other():
    assert imported('probe') <= {'plots'} and imported('plots') == set()
    for module in ('sources', 'tokens', 'examples', 'activations', 'tasks', 'store', 'executors', 'fingerprints', 'jobs', 'harvests'): assert not imported(module) & {'probe', 'solver', 'path'}
    assert imported('tasks') == {'sources', 'tokens', 'examples'}


def test_readme_names_what_the_makefile_has():
    rules = (ROOT / 'Makefile').read_text()
    for command in ('tour', 'test', 'lab', 'docs', 'serve', 'sync', 'clean'):
        assert f'make {command}' in (ROOT / 'README.md').read_text() and f'\n{command}:' in rules


def test_a_wheel_carries_the_lessons(tmp_path):
    for name in ('nbs', 'sparse_probing', 'pyproject.toml', 'README.md', 'LICENSE'):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    command = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation', '-w', tmp_path, tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    files = ZipFile(next(tmp_path.glob('*.whl'))).namelist()
    assert 'sparse_probing/lessons/00-tour.ipynb' in files and 'sparse_probing/sources.py' in files
