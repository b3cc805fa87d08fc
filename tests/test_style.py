"""How the code is written: lines that are seen whole, nothing unused, tests that stand alone."""
import ast
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tools.sync import ROOT

FOLDERS = 'sparse_probing', 'tests', 'tools', 'nbs' # of notebooks ruff reads the code cells
WIDTH = 100
MODULES = sorted(path for path in (ROOT / 'sparse_probing').rglob('*.py')
                 if path.name != '_modidx.py') # an index that nbdev keeps for itself
TESTS = sorted((ROOT / 'tests').rglob('*.py'))


def name(path: Path) -> str: return path.relative_to(ROOT).as_posix()


def lines_of_all(tree: ast.Module) -> set[int]:
    """The numbers of the lines of `__all__`, which nbdev wraps as it likes."""
    lists = [node for node in tree.body
             if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == '__all__']
    return {line for node in lists for line in range(node.lineno, node.end_lineno + 1)}


def ruff(*words):
    command = [sys.executable, '-m', 'ruff', 'check', '--no-cache', '--output-format', 'concise']
    return subprocess.run([*command, *words], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize('folder', FOLDERS)
def test_ruff_has_nothing_to_say(folder):
    run = ruff(folder)
    assert run.returncode == 0, run.stdout + run.stderr


def width(line: str) -> int:
    """How long a line may be: one of an example stands behind a prompt, in a docstring."""
    return WIDTH + 12 if re.match(r' +(>>>|\.\.\.) ', line) else WIDTH


@pytest.mark.parametrize('path', MODULES, ids=name)
def test_a_module_has_no_long_line(path):
    text = path.read_text()
    exempt = lines_of_all(ast.parse(text))
    long = {number: line for number, line in enumerate(text.splitlines(), 1)
            if len(line) > width(line) and number not in exempt}
    assert long == {}


@pytest.mark.parametrize('path', TESTS, ids=name)
def test_no_test_is_imported(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import): imported |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom): imported.add(node.module or '')
    assert not [module for module in imported if re.search(r'(^|\.)(test_\w+|conftest)$', module)]


@pytest.mark.parametrize('path', TESTS, ids=name)
def test_no_line_is_a_banner(path):
    assert re.findall(r'^\s*# ?([-=#*_~])\1{2,}.*', path.read_text(), re.M) == []


def test_ruff_reads_the_cells_of_notebooks(tmp_path):
    long = nbformat.v4.new_code_cell(f'x = {"1 + " * 30}1')
    prose = nbformat.v4.new_markdown_cell('word ' * 30)
    figure = nbformat.v4.new_code_cell(f'#| fig-alt: {"word " * 30}')
    nbformat.write(nbformat.v4.new_notebook(cells=[prose, long, figure]), tmp_path / 'a.ipynb')
    lines = ruff('--config', ROOT / 'pyproject.toml', tmp_path / 'a.ipynb').stdout.splitlines()
    assert [line.partition('E501')[1] for line in lines] == ['E501', '']
