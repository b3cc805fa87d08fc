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
from helpers.house import ROOT
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from sparse_probing.cli import app, my_copy, show
from sparse_probing.course.grade import run_checks
from sparse_probing.course.runs import write_step

COMMAND = Path(sys.executable).with_name('sparse-probing')
RECORD = ['model', 'text', 'layer', 'position', 'n_per_class', 'documents', 'tokens',
          'occurrences', 'X_shape', 'train', 'test', 'C', 'accuracy', 'nonzero', 'density', 'gap',
          'path', 'seconds']


def call(*words, cwd=None, **environment):
    return subprocess.run([COMMAND, *map(str, words)], cwd=cwd, capture_output=True, text=True,
                          env=os.environ | {'COLUMNS': '200'} | environment)


@pytest.fixture(scope='module')
def tour(tmp_path_factory):
    """The folder of a tour, where there was an earlier report before."""
    folder = tmp_path_factory.mktemp('report') / 'tour'
    folder.mkdir()
    for name in ('tour.json', 'old.txt'): (folder / name).touch()
    run = call('tour', '--out', folder)
    assert run.returncode == 0, run.stderr
    return folder


def test_a_tour_writes_one_record(tour):
    record = json.loads((tour / 'tour.json').read_text())
    assert list(record) == RECORD
    assert record['train'] + record['test'] == 200
    assert set(record['occurrences']) == {' the', ' an'}
    assert record['accuracy'] > .9
    assert 0 < record['nonzero'] < 100


def test_a_tour_records_a_certified_path(tour):
    points = json.loads((tour / 'tour.json').read_text())['path']
    assert len(points) == 17
    for point in points:
        assert set(point) == {'C', 'nonzero', 'density', 'gap'}
        assert point['gap'] <= 1e-6


def test_a_tour_writes_pictures_and_tables_with_words(tour):
    report, pictures = (tour / 'README.md').read_text(), list(tour.glob('*.png'))
    assert len(pictures) == 4
    for picture in pictures:
        assert picture.stat().st_size > 5000
        assert f']({picture.name})' in report
    assert 'precision' in report
    assert '![]' not in report


def test_a_tour_replaces_the_last_report_and_leaves_nothing_beside_it(tour):
    assert os.listdir(tour.parent) == ['tour']
    assert not (tour / 'old.txt').exists()


def test_a_tour_that_fails_leaves_the_last_report(tmp_path):
    (tmp_path / 'tour').mkdir()
    (tmp_path / 'tour/tour.json').write_text('the last one')
    run = call('tour', '--layer', 30, '--out', tmp_path / 'tour')
    assert run.returncode == 1
    assert 'layers [30] are out of range' in run.stderr
    assert 'Traceback' not in run.stderr.split('sparse-probing:')[-1]
    assert os.listdir(tmp_path) == ['tour']
    assert (tmp_path / 'tour/tour.json').read_text() == 'the last one'


def test_a_folder_that_is_no_report_is_never_replaced(tmp_path):
    (tmp_path / 'thesis.tex').write_text('years of work')
    run = call('tour', '--out', tmp_path)
    assert run.returncode == 1
    assert 'is not replaced: choose another folder' in run.stderr
    assert os.listdir(tmp_path) == ['thesis.tex']
    assert (tmp_path / 'thesis.tex').read_text() == 'years of work'


def test_the_doctor_finds_everything_here():
    run = call('doctor')
    assert run.returncode == 0, run.stdout
    for word in ('torch', 'extra course', 'extra embedded', 'smollm2', 'wiki', 'news', 'tasks',
                 'read as it is', 'cache folder', 'cores', 'memory', 'GPU'):
        assert word in run.stdout


DOCTOR_WITHOUT = """
import importlib.metadata as m, sys
real = m.distribution
def distribution(name):
    if name == {!r}: raise m.PackageNotFoundError(name)
    return real(name)
m.distribution = distribution
sys.argv = ['sparse-probing', 'doctor']
from sparse_probing.cli import main
main()
"""


def doctor_without(package, cache):
    """The doctor of a machine that lacks a package, and has converted nothing yet."""
    environment = os.environ | {'COLUMNS': '200', 'SPARSE_PROBING_CACHE': str(cache)}
    return subprocess.run([sys.executable, '-c', DOCTOR_WITHOUT.format(package)], env=environment,
                          capture_output=True, text=True)


@pytest.mark.parametrize('package, mend', [('papermill', "pip install 'sparse_probing[course]'"),
                                           ('gguf', "pip install 'sparse_probing[embedded]'")])
def test_the_doctor_says_which_extra_is_absent_and_is_content(tmp_path, package, mend):
    run = doctor_without(package, tmp_path / 'cache')
    assert run.returncode == 0, run.stdout + run.stderr
    assert f'without {package}' in run.stdout
    assert mend in run.stdout


@pytest.mark.parametrize('package, mend', [('regex', "pip install 'regex>="),
                                           ('gensim', 'sparse-probing fetch')])
def test_the_doctor_says_what_is_missing_and_how_to_mend_it(tmp_path, package, mend):
    run = doctor_without(package, tmp_path / 'cache')
    assert run.returncode == 1
    assert 'missing: ' in run.stdout
    assert mend in run.stdout


def test_the_doctor_finds_a_cache_that_is_no_folder(tmp_path):
    (tmp_path / 'file').touch()
    run = call('doctor', SPARSE_PROBING_CACHE=str(tmp_path / 'file'))
    assert run.returncode == 1
    assert 'missing: cache folder' in run.stdout
    assert 'export SPARSE_PROBING_CACHE' in run.stdout


def test_fetch_where_everything_is_there():
    run = call('fetch')
    assert run.returncode == 0
    for words in ('LM(smollm2: 30 layers x 1536 neurons', 'news: 300 documents',
                  'tasks: 127 labelled sets'):
        assert words in run.stdout


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    """A folder with copies of the lessons in `my-lessons`."""
    folder = tmp_path_factory.mktemp('home')
    assert call('lessons', folder / 'my-lessons').returncode == 0
    (folder / 'my-lessons/notes').mkdir()
    return folder


def test_the_links_of_copies_lead_to_copies_or_to_the_site(home):
    folder = home / 'my-lessons'
    copies = sorted(folder.glob('*.ipynb'))
    assert {path.stem[:9] for path in copies} >= {'00-tour', 'self-test'}
    for path in copies:
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type != 'markdown': continue
            for link in re.findall(r'\]\(([^)\s]+)\)', re.sub(r'`[^`]*`', '', cell.source)):
                if link.startswith(('http', '#')): continue
                assert (folder / link.partition('#')[0]).is_file(), f'{path.name}: {link}'


def test_a_prediction_comes_back_beside_the_answer(home):
    copy = nbformat.read(home / 'my-lessons/03-examples.ipynb', 4)
    sources = [cell.source for cell in copy.cells]
    places = [k for k, source in enumerate(sources) if source.endswith("predict('')")]
    assert len(places) == 2 and sources[places[0] - 1].startswith('## Predict first')
    answers = [cell for cell in copy.cells if cell.source.startswith('#| echo: false')]
    assert all('Run this cell' in str(cell.outputs) for cell in answers) and len(answers) == 2


@pytest.fixture(scope='module')
def lesson_3(home): return nbformat.read(home / 'my-lessons/03-examples.ipynb', 4)


def test_a_copy_is_a_lesson_to_work_in(home, lesson_3):
    assert {path.suffix for path in (home / 'my-lessons').iterdir()} == {'.ipynb', '.parquet', ''}
    shown = [str(cell.outputs) for cell in lesson_3.cells if cell.get('outputs')]
    assert all('Run this cell for the answer' in text for text in shown)
    assert not any('::::' in cell.source for cell in lesson_3.cells)


def test_a_copy_that_is_not_answered_gets_a_hint(home, lesson_3):
    run = call('check', 3, '--folder', home / 'my-lessons')
    printed = ' '.join(run.stdout.replace('│', ' ').split())
    assert run.returncode == 1
    assert 'is still the stub. Hint:' in printed, printed
    assert 'code cell' not in printed, 'every other cell of the copy runs'


def test_a_copy_is_never_overwritten(tmp_path):
    tmp_path.joinpath('03-examples.ipynb').write_text('my own work')
    run = call('lessons', tmp_path)
    assert 'kept as you left them: 03-examples.ipynb' in run.stdout
    assert '00-tour.ipynb' in run.stdout
    assert (tmp_path / '03-examples.ipynb').read_text() == 'my own work'


@pytest.fixture(scope='module')
def answered(home, lesson_3):
    """The third lesson, answered: its last cell before the solutions checks the lesson itself."""
    code = [cell.source for cell in lesson_3.cells if cell.cell_type == 'code']
    answer = [source for source in code if source.startswith('def match_by_document')][-1]
    assert '... # your code' not in answer
    sources = ['import numpy as np',
               'from sparse_probing.course.checks import check_match_by_document', answer,
               next(source for source in code if source.startswith('check_')),
               '!sparse-probing check 3']
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells.append(nbformat.v4.new_markdown_cell('## Solutions'))
    (home / 'answered/my-lessons').mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells),
                   home / 'answered/my-lessons/03-examples.ipynb')
    return home / 'answered'


@pytest.mark.parametrize('folder, words', [('.', ['3']), ('my-lessons', ['03-examples.ipynb']),
                                           ('/', ['3', '--folder', 'HOME/my-lessons'])])
def test_a_check_is_called_from_everywhere(answered, folder, words):
    # a notebook finds the command, as it does in an environment that is active
    run = call('check', *(word.replace('HOME', str(answered)) for word in words),
               cwd=answered / folder, PATH=f'{COMMAND.parent}:{os.environ["PATH"]}')
    assert run.returncode == 0, run.stdout + run.stderr
    assert 'match_by_document: all 7 cases right' in run.stdout


def test_a_notebook_that_asks_for_its_own_check_is_judged_once(answered):
    answers = [answer for _, answer in run_checks(answered / 'my-lessons/03-examples.ipynb')]
    assert answers == ['passed, match_by_document: all 7 cases right']


def test_a_check_inside_of_a_check_ends_at_once(answered):
    run = call('check', 3, cwd=answered, SPARSE_PROBING_CHECKED='03-examples.ipynb')
    assert run.returncode == 0
    assert run.stdout == '03-examples.ipynb is being checked already\n'


@pytest.mark.parametrize('lesson, folder, message', [
    ('5', None, 'my-lessons/05-probe.ipynb is not there: `sparse-probing lessons my-lessons`'),
    ('nowhere/04-activations.ipynb', None,
     'nowhere/04-activations.ipynb is not there: `sparse-probing lessons nowhere`'),
    ('4', Path('none'), 'none/04-activations.ipynb is not there'),
    ('mine', None, "there is no lesson 'mine'"),
    ('my_work.ipynb', None, "there is no lesson 'my_work'")])
def test_a_check_that_finds_no_copy_says_where_it_would_be(tmp_path, monkeypatch, lesson, folder,
                                                           message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=re.escape(message)): my_copy(lesson, folder)


def test_a_check_without_a_copy_says_how_to_get_one(tmp_path):
    run = call('check', 3, '--folder', tmp_path / 'none')
    assert run.returncode == 1
    assert f'sparse-probing lessons {tmp_path}' in run.stderr


@pytest.mark.parametrize('command', [[COMMAND], [sys.executable, '-m', 'sparse_probing']])
def test_the_command_says_its_version(command, tmp_path):
    run = subprocess.run([*command, '--version'], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0
    assert run.stdout == f'sparse-probing {sparse_probing.__version__}\n'


HOSTILE = ['```\n# A heading', '````\n```\n![](http://example.com/x.png)',
           '~~~\n<script>alert(1)</script>', '[red]a[/red] [link=http://example.com]b', '`',
           '```python\n```', ':smile: [/]', '[a](b) *c* _d_ $e$ |f|']


@pytest.mark.parametrize('text', HOSTILE)
def test_text_of_a_corpus_stays_text_in_a_report(text, tmp_path):
    step = dict(title='A step', texts=[text, 'after'], pictures=[(text, b'PNG')])
    tokens = MarkdownIt().parse(write_step(step, tmp_path))
    blocks = [(token.type, token.content.rstrip('\n')) for token in tokens
              if token.type in ('fence', 'html_block', 'code_block')]
    assert blocks == [('fence', text), ('fence', 'after')]
    assert [token.type for token in tokens].count('heading_open') == 1
    picture, = tokens[-2].children
    assert picture.attrs['src'] == 'a-step.png'
    words = ''.join(child.content for child in picture.children)
    assert picture.content and words == ' '.join(text.split())


@pytest.mark.parametrize('text', HOSTILE)
def test_text_of_a_corpus_stays_text_on_the_terminal(text, capsys):
    line = text.replace('\n', ' ')
    show(line, [line], [[line]])
    assert capsys.readouterr().out.count(line) == 3


@pytest.fixture(scope='module')
def swept(tmp_path_factory):
    """A sweep by the command, its words, and its folder."""
    folder = tmp_path_factory.mktemp('sweeps') / 'sweep'
    words = ['sweep', '--text', 'news', '--n', '20', '--layers', '0,2', '--positions', '-1:0',
             '--k', '1,4', '--out', str(folder)]
    run = call(*words)
    assert run.returncode == 0, run.stderr
    return words, folder


def times_of_cells(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / 'cells').iterdir()}


def test_a_sweep_writes_activations_cells_table_and_maps(swept):
    _, folder = swept
    assert sorted(path.name for path in folder.iterdir()) == [
        'activations.safetensors', 'cells', 'layers.png', 'map.png', 'sweep.parquet']
    assert len(times_of_cells(folder)) == 4
    assert os.listdir(folder.parent) == ['sweep']


def test_a_sweep_that_is_given_again_computes_nothing_again(swept):
    words, folder = swept
    before = times_of_cells(folder)
    assert CliRunner().invoke(app, words).exit_code == 0
    assert times_of_cells(folder) == before


@pytest.mark.parametrize('changed, message', [
    (['--k', '1,2'], 'made from other data, or with other settings'),
    (['--layers', '0,1'], 'activations of other examples, layers, positions or site')])
def test_a_sweep_with_other_words_touches_nothing(swept, changed, message):
    words, folder = swept
    before = times_of_cells(folder)
    run = CliRunner().invoke(app, [*words, *changed])
    assert run.exit_code == 1
    assert message in str(run.exception)
    assert times_of_cells(folder) == before


@pytest.mark.parametrize('words, code', [
    (['bench', 'nothing'], 1), (['tour', '--layer', 'three'], 2), (['nonsense'], 2),
    (['check', '99'], 1), (['verify', '/nonexistent/place'], 1),
    (['--help'], 0)])
def test_wrong_words_end_in_one_line_and_a_code(words, code):
    run = call(*words)
    assert run.returncode == code
    assert 'Traceback' not in run.stderr.split('sparse-probing:')[-1]
    if code == 1: assert run.stderr.splitlines()[-1].startswith('sparse-probing: ')


def test_a_wrong_word_is_answered_with_the_right_ones():
    assert 'choose one of tour' in call('bench', 'nothing').stderr
    assert call('check', 99).stderr.startswith("sparse-probing: there is no lesson '99'")


def test_continuous_integration_calls_the_tests():
    assert os.access(ROOT / '.ci/run', os.X_OK)
    assert (ROOT / '.ci/run').read_text().splitlines()[1:] == [
        'set -euo pipefail', 'cd "$(dirname "$0")/.."', 'make test']
    workflow = yaml.safe_load((ROOT / '.github/workflows/site.yml').read_text())
    commands = [step['run'] for step in workflow['jobs']['test']['steps'] if 'run' in step]
    assert commands[-2:] == ['make test', 'make docs']


def make(*words):
    # a make inside of `make test` would say which folder it enters, and where it is called from
    environment = {k: v for k, v in os.environ.items() if not k.startswith(('MAKE', 'MFLAGS'))}
    return subprocess.run(['make', *words], cwd=ROOT, capture_output=True, text=True,
                          env=environment)


def test_the_first_time_is_announced_and_hides_what_pip_says():
    lines = make('--dry-run', '--always-make', 'tour').stdout.splitlines()
    def line_with(words): return next(k for k, line in enumerate(lines) if words in line)
    places = [line_with(words) for words in (
        'takes some minutes and about 3 GB', '-m venv', 'pip install', 'sparse-probing fetch',
        'sparse-probing tour')]
    assert places == sorted(places)
    install = lines[line_with('pip install')]
    assert '> .venv/install.log 2>&1 || { cat .venv/install.log; exit 1; }' in install
    assert "'.[dev,bench,course,embedded]'" in install


def test_the_second_time_says_nothing_of_minutes():
    assert 'minutes' not in make('--dry-run', '--old-file=.venv/.ready', 'tour').stdout


OLD_PYTHON = """#!/bin/sh
shift
exec {} -c "import sys; sys.version_info = (3, 9, 1); sys.version = '3.9.1'; $1"
"""


def test_an_old_python_is_refused_before_anything_is_made(tmp_path):
    old = tmp_path / 'python'
    old.write_text(OLD_PYTHON.format(sys.executable))
    old.chmod(0o755)
    run = make('--always-make', f'PYTHON={old}', f'VENV={tmp_path}/venv', 'tour')
    assert run.returncode == 2
    assert 'Python 3.11 or newer is needed' in run.stderr
    assert 'make PYTHON=' in run.stderr
    assert os.listdir(tmp_path) == ['python']


def test_jupyter_lab_is_started_with_the_commands_on_its_path():
    start = make('--dry-run', '--old-file=.venv/.ready', 'lab').stdout.splitlines()[-1]
    setting = start.partition(' .venv')[0]
    path = subprocess.run(['sh', '-c', f'{setting} printenv PATH'], cwd=ROOT, capture_output=True,
                          text=True).stdout
    assert path.startswith(f'{ROOT}/.venv/bin:')
    assert 'jupyter lab' in start
