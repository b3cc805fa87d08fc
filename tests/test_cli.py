"""The command line as a user meets it: real processes, exit codes, and what is left in folders."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import sparse_probing
import yaml
from markdown_it import MarkdownIt
from tools.sync import ROOT

from sparse_probing.checks import run_checks
from sparse_probing.cli import my_copy, show
from sparse_probing.report import write_step

COMMAND = Path(sys.executable).with_name('sparse-probing')
KEYS = ['model', 'text', 'layer', 'position', 'n_per_class', 'documents', 'tokens', 'occurrences', 'X_shape', 'train', 'test', 'C', 'accuracy',
        'nonzero', 'density', 'gap', 'path', 'seconds']


def call(*arguments, cwd=None, **environment):
    return subprocess.run([COMMAND, *map(str, arguments)], cwd=cwd, env=os.environ | {'COLUMNS': '200'} | environment, capture_output=True, text=True)


def test_tour(tmp_path):
    (tmp_path / 'tour').mkdir()
    for name in ('tour.json', 'old.txt'): (tmp_path / 'tour' / name).touch()
    run = call('tour', '--out', tmp_path / 'tour')
    assert run.returncode == 0, run.stderr
    result = json.loads((tmp_path / 'tour/tour.json').read_text())
    assert list(result) == KEYS and len(result['path']) == 17 and result['train'] + result['test'] == 200
    assert set(result['occurrences']) == {' the', ' an'} and result['accuracy'] > .9 and 0 < result['nonzero'] < 100
    assert all(set(point) == {'C', 'nonzero', 'density', 'gap'} and point['gap'] <= 1e-6 for point in result['path'])
    pictures = list((tmp_path / 'tour').glob('*.png'))
    report = (tmp_path / 'tour/README.md').read_text()
    assert len(pictures) == 4 and all(p.stat().st_size > 5000 and f']({p.name})' in report for p in pictures)
    assert 'precision' in report and '![]' not in report
    assert os.listdir(tmp_path) == ['tour'] and not (tmp_path / 'tour/old.txt').exists()


def test_a_tour_that_fails_leaves_the_last_report(tmp_path):
    (tmp_path / 'tour').mkdir()
    (tmp_path / 'tour/tour.json').write_text('the last one')
    run = call('tour', '--layer', 30, '--out', tmp_path / 'tour')
    assert run.returncode == 1 and 'layers [30] are out of range' in run.stderr and 'Traceback' not in run.stderr.split('sparse-probing:')[-1]
    assert os.listdir(tmp_path) == ['tour'] and (tmp_path / 'tour/tour.json').read_text() == 'the last one'


def test_a_folder_that_is_no_report_is_never_replaced(tmp_path):
    (tmp_path / 'thesis.tex').write_text('years of work')
    run = call('tour', '--out', tmp_path)
    assert run.returncode == 1 and 'is not replaced: choose another folder' in run.stderr
    assert (tmp_path / 'thesis.tex').read_text() == 'years of work' and os.listdir(tmp_path) == ['thesis.tex']


def test_doctor_finds_everything_here():
    run = call('doctor')
    assert run.returncode == 0, run.stdout
    for word in ('torch', 'smollm2', 'wiki', 'news', 'tasks', 'read as it is', 'cache folder', 'cores', 'memory', 'GPU'): assert word in run.stdout


def test_doctor_finds_what_is_missing(tmp_path):
    blind = ('import importlib.metadata as m; real = m.distribution\n'
             'def distribution(name):\n if name in ("{0}",): raise m.PackageNotFoundError(name)\n return real(name)\n'
             'm.distribution = distribution\nimport sys; sys.argv = ["sparse-probing", "doctor"]\nfrom sparse_probing.cli import main; main()')
    for package, mend in (('papermill', "pip install 'papermill>="), ('gensim', 'sparse-probing fetch')):
        environment = os.environ | {'COLUMNS': '200', 'SPARSE_PROBING_CACHE': str(tmp_path / 'cache')}
        run = subprocess.run([sys.executable, '-c', blind.format(package)], env=environment, capture_output=True, text=True)
        assert run.returncode == 1 and mend in run.stdout and 'missing: ' in run.stdout, run.stdout + run.stderr
    (tmp_path / 'file').touch()
    run = call('doctor', SPARSE_PROBING_CACHE=str(tmp_path / 'file'))
    assert run.returncode == 1 and 'missing: cache folder' in run.stdout and 'export SPARSE_PROBING_CACHE' in run.stdout


def test_fetch_where_everything_is_there():
    run = call('fetch')
    assert run.returncode == 0 and 'LM(smollm2: 30 layers x 1536 neurons' in run.stdout and 'news: 300 documents' in run.stdout and 'tasks: 127 labelled sets' in run.stdout


def test_a_learners_copy_is_checked_and_never_overwritten(tmp_path):
    assert call('lessons', tmp_path).returncode == 0
    copy = tmp_path / '03-examples.ipynb'
    notebook = json.loads(copy.read_text())
    assert not any(cell.get('outputs') for cell in notebook['cells'])
    stub = next(cell for cell in notebook['cells'] if '... # your code' in ''.join(cell['source']))
    code = [cell for cell in notebook['cells'] if cell['cell_type'] == 'code']
    solution = [cell for cell in code if ''.join(cell['source']).startswith('def match_by_document')][-1]
    assert not any('::::' in ''.join(cell['source']) for cell in notebook['cells'])
    run = call('check', 3, '--folder', tmp_path)
    said = ' '.join(run.stdout.replace('│', ' ').split())
    assert run.returncode == 1 and 'it returned nothing. Hint:' in said, said
    stub['source'] = solution['source']
    copy.write_text(json.dumps(notebook))
    run = call('check', copy)
    assert run.returncode == 0 and 'passed' in run.stdout, run.stdout + run.stderr
    mine = copy.read_bytes()
    run = call('lessons', tmp_path)
    assert 'kept as you left them' in run.stdout and copy.read_bytes() == mine
    (tmp_path / '00-tour.ipynb').unlink()
    assert '00-tour.ipynb' in call('lessons', tmp_path).stdout and copy.read_bytes() == mine
    assert {p.suffix for p in tmp_path.iterdir()} == {'.ipynb', '.parquet'}


@pytest.fixture(scope='module')
def mine(tmp_path_factory):
    """A folder with copies of the lessons; the third is answered, and checks itself in its last cell before the solutions."""
    home = tmp_path_factory.mktemp('home')
    assert call('lessons', home / 'my-lessons').returncode == 0
    lesson = home / 'my-lessons/03-examples.ipynb'
    notebook = nbformat.read(lesson, 4)
    stub = next(cell for cell in notebook.cells if '... # your code' in cell.source)
    check = next(cell for cell in notebook.cells if cell.source.startswith('check_'))
    answer = [cell for cell in notebook.cells if cell.source.startswith('def match_by_document')][-1]
    code = [nbformat.v4.new_code_cell(source) for source in ('import numpy as np\nfrom sparse_probing.checks import check_match_by_document', answer.source, check.source, '!sparse-probing check 3')]
    assert stub.source != answer.source
    nbformat.write(nbformat.v4.new_notebook(cells=[*code, nbformat.v4.new_markdown_cell('## Solutions')]), lesson)
    (home / 'my-lessons/notes').mkdir()
    return home


@pytest.mark.parametrize('folder, words', [('.', ['3']), ('my-lessons', ['03-examples.ipynb']), ('/', ['3', '--folder', 'HOME/my-lessons'])])
def test_a_check_is_called_from_everywhere_and_from_inside_its_notebook(mine, folder, words):
    run = call('check', *(word.replace('HOME', str(mine)) for word in words), cwd=mine / folder, PATH=f'{COMMAND.parent}:{os.environ["PATH"]}')
    assert run.returncode == 0 and 'match_by_document: all 5 cases right' in run.stdout, run.stdout + run.stderr


def test_what_a_notebook_asks_for_while_it_is_checked_ends_at_once(mine):
    found = [outcome for name, outcome in run_checks(mine / 'my-lessons/03-examples.ipynb')]
    assert found == ['passed, match_by_document: all 5 cases right']
    run = call('check', 3, cwd=mine, SPARSE_PROBING_CHECKED='03-examples.ipynb')
    assert run.returncode == 0 and run.stdout == '03-examples.ipynb is being checked already\n'


@pytest.mark.parametrize('words, told', [(['5', None], 'my-lessons/05-probe.ipynb is not there: `sparse-probing lessons my-lessons`'), (['nowhere/04-activations.ipynb', None], 'nowhere/04-activations.ipynb is not there: `sparse-probing lessons nowhere`'),
                                         (['4', Path('none')], 'none/04-activations.ipynb is not there'), (['mine', None], "there is no lesson 'mine'"), (['my_work.ipynb', None], "there is no lesson 'my_work'")])
def test_a_check_that_finds_no_copy_says_where_it_would_be(tmp_path, words, told, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=re.escape(told)): my_copy(*words)


@pytest.mark.parametrize('command', [[COMMAND], [sys.executable, '-m', 'sparse_probing']])
def test_version(command, tmp_path):
    run = subprocess.run([*command, '--version'], cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, f'sparse-probing {sparse_probing.__version__}\n')


HOSTILE = ['```\n# A heading', '````\n```\n![](http://example.com/x.png)', '~~~\n<script>alert(1)</script>', '[red]a[/red] [link=http://example.com]b', '`', '```python\n```', ':smile: [/]', '[a](b) *c* _d_ $e$ |f|']


@pytest.mark.parametrize('text', HOSTILE)
def test_text_of_a_corpus_stays_text_in_a_report(text, tmp_path):
    tokens = MarkdownIt().parse(write_step(dict(title='A step', texts=[text, 'after'], pictures=[(text, b'PNG')]), tmp_path))
    assert [(token.type, token.content.rstrip('\n')) for token in tokens if token.type in ('fence', 'html_block', 'code_block')] == [('fence', text), ('fence', 'after')]
    assert [token.type for token in tokens].count('heading_open') == 1
    picture, = tokens[-2].children
    assert picture.attrs['src'] == 'a-step.png' and picture.content and ''.join(child.content for child in picture.children) == ' '.join(text.split())


@pytest.mark.parametrize('text', HOSTILE)
def test_text_of_a_corpus_stays_text_on_the_terminal(text, capsys):
    line = text.replace('\n', ' ')
    show(line, [line], [[line]])
    assert capsys.readouterr().out.count(line) == 3


def test_a_check_without_a_copy_says_how_to_get_one(tmp_path):
    run = call('check', 3, '--folder', tmp_path / 'none')
    assert run.returncode == 1 and f'sparse-probing lessons {tmp_path}' in run.stderr
    assert call('check', 99, '--folder', tmp_path).stderr.startswith("sparse-probing: there is no lesson '99'")


def test_sweep(tmp_path):
    arguments = 'sweep', '--n', 40, '--layers', '0,2', '--positions', '-1:0', '--k', '1,4', '--out', tmp_path / 'sweep'
    run = call(*arguments)
    assert run.returncode == 0, run.stderr
    assert sorted(p.name for p in (tmp_path / 'sweep').iterdir()) == ['activations.safetensors', 'cells', 'layers.png', 'map.png', 'sweep.parquet']
    cells = {p.name: p.stat().st_mtime_ns for p in (tmp_path / 'sweep/cells').iterdir()}
    assert len(cells) == 4 and call(*arguments).returncode == 0
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / 'sweep/cells').iterdir()} == cells
    run = call(*arguments, '--k', '1,2')
    assert run.returncode == 1 and 'made from other data, or with other settings' in run.stderr
    run = call(*arguments, '--layers', '0,1')
    assert run.returncode == 1 and 'activations of other examples, layers or positions' in run.stderr
    assert os.listdir(tmp_path) == ['sweep']


def test_wrong_words():
    run = call('bench', 'nothing')
    assert run.returncode == 1 and 'choose one of tour' in run.stderr
    assert call('tour', '--layer', 'three').returncode == 2 and call('nonsense').returncode == 2
    assert call('--help').returncode == 0
    assert call('tour', '--text', 'no-such-*.parquet', '--out', '/nonexistent/place').returncode == 1


def test_continuous_integration_calls_the_tests():
    assert os.access(ROOT / '.ci/run', os.X_OK)
    assert (ROOT / '.ci/run').read_text().splitlines()[1:] == ['set -euo pipefail', 'cd "$(dirname "$0")/.."', 'make test']
    steps = [step['run'] for step in yaml.safe_load((ROOT / '.github/workflows/site.yml').read_text())['jobs']['test']['steps'] if 'run' in step]
    assert steps[-2:] == ['make test', 'make docs']


def make(*words):
    # a make inside of `make test` would say which folder it enters, and where it is called from
    environment = {k: v for k, v in os.environ.items() if not k.startswith(('MAKE', 'MFLAGS'))}
    return subprocess.run(['make', *words], cwd=ROOT, capture_output=True, text=True, env=environment)


def test_the_first_time_is_announced_and_hides_what_pip_says():
    lines = make('--dry-run', '--always-make', 'tour').stdout.splitlines()
    order = [next(k for k, line in enumerate(lines) if word in line) for word in ('takes some minutes and about 3 GB', '-m venv', 'pip install', 'sparse-probing fetch', 'sparse-probing tour')]
    assert order == sorted(order) and '> .venv/install.log 2>&1 || { cat .venv/install.log; exit 1; }' in lines[order[2]]
    assert 'minutes' not in make('--dry-run', '--old-file=.venv/.ready', 'tour').stdout


def test_an_old_python_is_refused_before_anything_is_made(tmp_path):
    (old := tmp_path / 'python').write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -c "import sys; sys.version_info = (3, 9, 1); sys.version = \'3.9.1\'; $1"\n')
    old.chmod(0o755)
    run = make('--always-make', f'PYTHON={old}', f'VENV={tmp_path}/venv', 'tour')
    assert run.returncode == 2 and 'Python 3.11 or newer is needed' in run.stderr and 'make PYTHON=' in run.stderr and os.listdir(tmp_path) == ['python']


def test_jupyter_lab_is_started_with_the_commands_on_its_path():
    start = make('--dry-run', '--old-file=.venv/.ready', 'lab').stdout.splitlines()[-1]
    path = subprocess.run(['sh', '-c', start.partition(' .venv')[0] + ' printenv PATH'], cwd=ROOT, capture_output=True, text=True).stdout
    assert path.startswith(f'{ROOT}/.venv/bin:') and 'jupyter lab' in start
