"""The package as a whole: what it declares, what it imports, and in which order."""
import ast
import configparser
import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path
from zipfile import ZipFile

import nbformat
import pytest
import sparse_probing
from nbclient import NotebookClient
from tools.sync import ROOT

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
    names = {'accelerate', 'gguf', 'ipykernel', 'ipywidgets', 'safetensors', 'scipy'}  # used by name only, through transformers, papermill, tqdm and scikit-learn
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
    assert imported(module) <= {*LESSONS[:LESSONS.index(module)], 'plots', 'fingerprints', 'ledger'}


def test_the_two_wings_know_nothing_of_each_other():
    assert imported('probe') <= {'plots'} and imported('plots') == imported('sites') == imported('fingerprints') == set()
    for module in ('sites', 'sources', 'tokens', 'examples', 'activations', 'tasks', 'store', 'executors', 'fingerprints', 'ledger', 'harvests'): assert not imported(module) & {'probe', 'solver', 'path'}
    assert imported('tasks') == {'sources', 'tokens', 'examples'}


def test_readme_names_what_the_makefile_has():
    rules = (ROOT / 'Makefile').read_text()
    for command in ('tour', 'test', 'lab', 'docs', 'serve', 'sync', 'clean'):
        assert f'make {command}' in (ROOT / 'README.md').read_text() and f'\n{command}:' in rules


def copy_clone(folder):
    """What a build needs of the repository, in another folder."""
    for name in ('nbs', 'sparse_probing', 'pyproject.toml', 'README.md', 'LICENSE'):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, folder / name)
    return folder


def test_a_wheel_carries_the_lessons(tmp_path):
    command = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation', '-w', tmp_path, copy_clone(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    files = set(ZipFile(next(tmp_path.glob('*.whl'))).namelist())
    lessons = {f'sparse_probing/lessons/{p.name}' for p in (ROOT / 'nbs/lessons').iterdir() if p.suffix in ('.ipynb', '.parquet')}
    modules = {f'sparse_probing/{p.name}' for p in (ROOT / 'sparse_probing').glob('*.py')}
    assert {name for name in files if '.dist-info/' not in name} == lessons | modules


@pytest.fixture(scope='session')
def installed(tmp_path_factory):
    """A Python that sees the packages of this one, and the folder above a clone named like the package, installed from there by hand."""
    folder = tmp_path_factory.mktemp('above')
    (folder / 'sparse_probing/report').mkdir(parents=True) # `make tour` writes there
    (folder / 'elsewhere').mkdir()
    clone = copy_clone(folder / 'sparse_probing')
    venv.create(folder / 'venv')
    python = folder / 'venv/bin/python'
    purelib = subprocess.run([python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))'], capture_output=True, text=True, check=True).stdout.strip()
    (Path(purelib) / 'packages.pth').write_text(sysconfig.get_path('purelib'))
    command = [sys.executable, '-m', 'pip', '--python', python, 'install', '--quiet', '--no-deps', '--no-build-isolation', '-e', clone]
    subprocess.run(command, check=True, capture_output=True)
    return python, folder


NOTEBOOK = """import nbformat, sys
from nbclient import NotebookClient
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(sys.argv[1])])
print(NotebookClient(notebook, kernel_name='python3').execute().cells[0].outputs[0].text)"""
IMPORT = 'import sparse_probing, sparse_probing.report as r; print(sparse_probing.__file__, r.__file__)'


@pytest.mark.parametrize('place', ['.', 'sparse_probing', 'elsewhere'])
def test_the_package_is_found_from_every_folder(installed, place):
    python, folder = installed
    def run(*words): return subprocess.run([python, *words], cwd=folder / place, env={'PATH': os.defpath, 'HOME': str(folder)}, capture_output=True, text=True)
    package = folder / 'sparse_probing/sparse_probing'
    (folder / place / 'mine.py').write_text(IMPORT)
    (folder / place / 'test_mine.py').write_text(f'def test_found():\n    import sparse_probing; assert sparse_probing.__file__ == {str(package / "__init__.py")!r}\n')
    for words in (['-c', IMPORT], ['mine.py'], ['-c', NOTEBOOK, IMPORT]):
        answer = run(*words)
        assert answer.stdout.split() == [str(package / '__init__.py'), str(package / 'report.py')], answer.stderr
    assert run('-c', 'from sparse_probing import record; record').returncode == 0
    assert run('-m', 'sparse_probing', '--version').stdout == f'sparse-probing {sparse_probing.__version__}\n'
    assert run('-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'test_mine.py').returncode == 0


def test_the_first_imports_in_a_notebook_print_nothing():
    cells = [nbformat.v4.new_code_cell(f'import sparse_probing.{p.stem}') for p in (ROOT / 'sparse_probing').glob('*.py') if p.stem[0] != '_']
    environment = {name: value for name, value in os.environ.items() if name != 'TQDM_DISABLE'}
    notebook = NotebookClient(nbformat.v4.new_notebook(cells=cells), kernel_name='python3').execute(env=environment)
    assert [output for cell in notebook.cells for output in cell.outputs] == []
