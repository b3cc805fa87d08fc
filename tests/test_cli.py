"""The command line as a user meets it: real processes, exit codes, and what is left in folders."""
import json
import os
import subprocess
import sys
from pathlib import Path

import yaml
from notebooks import ROOT

COMMAND = Path(sys.executable).with_name('sparse-probing')
KEYS = ['model', 'text', 'layer', 'position', 'n_per_class', 'documents', 'tokens', 'occurrences', 'X_shape', 'train', 'test', 'C', 'accuracy',
        'nonzero', 'density', 'gap', 'path', 'seconds']


def call(*arguments, **environment):
    return subprocess.run([COMMAND, *map(str, arguments)], env=os.environ | {'COLUMNS': '200'} | environment, capture_output=True, text=True)


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
    assert os.access(ROOT / '.ci/run', os.X_OK) and 'make test' in (ROOT / '.ci/run').read_text()
    steps = [step['run'] for step in yaml.safe_load((ROOT / '.github/workflows/site.yml').read_text())['jobs']['test']['steps'] if 'run' in step]
    assert steps[-2:] == ['make test', 'make docs']
