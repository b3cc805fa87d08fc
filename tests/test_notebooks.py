"""Every notebook runs, gives what is committed, and makes the modules and the README."""
import base64
import filecmp
import json
import os
import re
import shutil
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tools.sync import NOTEBOOKS, ROOT, execute_apart, export, readme

# What a lesson may take, imports and the model apart: 20 s on two cores where a yardstick takes
# 45 ms. On a slow machine both take longer. Where another worker has one of the cores, a lesson
# that uses two takes up to twice as long, and a yardstick hardly longer.
YARDSTICKS = 880 if 'PYTEST_XDIST_WORKER' in os.environ else 440


def name(path): return path.relative_to(ROOT / 'nbs').as_posix()


def pixels(png):
    picture = Image.open(BytesIO(base64.b64decode(png)))
    return np.asarray(picture.convert('RGB'), float)


def without_pictures(notebook: dict) -> tuple[dict, list[np.ndarray]]:
    """A notebook with its pictures taken out, and the pictures as arrays of pixels."""
    pictures = []
    for cell in notebook['cells']:
        for output in cell.get('outputs', []):
            png = output.get('data', {}).pop('image/png', None)
            if png: pictures.append(pixels(png))
    return notebook, pictures


def own_cells(run):
    """Seconds and source of the cells that do more than import and load the model."""
    return [(seconds, source) for seconds, source in run['cells']
            if not re.search(r'^(from|import) |load_lm\(', source, re.M)]


def total(cells): return sum(seconds for seconds, _ in cells)


def length(run): return total(own_cells(run)) / np.mean(run['yardsticks'])


def first_line(source):
    return next((line for line in source.splitlines() if not line.startswith('#|')), '')[:50]


def measures(run):
    """What is told of a lesson's time."""
    cells, yardstick = own_cells(run), 1000 * np.mean(run['yardsticks'])
    slowest = ', '.join(f'{seconds:.1f} s ({first_line(source)})'
                        for seconds, source in sorted(cells, reverse=True)[:3])
    return (f'{total(cells):.1f} s, {length(run):.0f} of at most {YARDSTICKS} yardsticks of '
            f'{yardstick:.0f} ms; the slowest cells {slowest}')


@pytest.mark.parametrize('path', NOTEBOOKS, ids=name)
def test_runs_and_gives_what_is_committed(path, tmp_path, tell):
    # A processor with other instructions moves the last digits of an activation and with it the
    # edge of a dot, so pictures are compared by their pixels and everything else to the letter.
    fresh_path = tmp_path / path.name
    lesson = path.parent.name == 'lessons'
    run = execute_apart(path, fresh_path, measured=lesson)
    if lesson and length(run) > YARDSTICKS: # something may have come in between the yardsticks
        run = min(run, execute_apart(path, fresh_path, measured=True), key=length)
    if lesson: tell(f'{path.stem}: {measures(run)}')
    assert not lesson or length(run) <= YARDSTICKS, measures(run)
    fresh, pictures = without_pictures(json.loads(fresh_path.read_text()))
    committed, committed_pictures = without_pictures(json.loads(path.read_text()))
    cells = zip(fresh.pop('cells'), committed.pop('cells'), strict=True)
    changed = [(new, old) for new, old in cells if new != old]
    assert not changed, f'{len(changed)} cells; run `make sync`. The first: {changed[0]!s:.2000}'
    assert fresh == committed, 'run `make sync`'
    sizes = [picture.shape for picture in pictures]
    assert sizes == [picture.shape for picture in committed_pictures], 'run `make sync`'
    for now, before in zip(pictures, committed_pictures):
        assert np.abs(now - before).mean() < .5, 'a picture has changed: run `make sync`'


def test_two_runs_give_the_same_bytes(tmp_path):
    lesson = ROOT / 'nbs/lessons/03-examples.ipynb' # draws at random, and has figures
    for copy in 'ab': execute_apart(lesson, tmp_path / copy)
    assert (tmp_path / 'a').read_bytes() == (tmp_path / 'b').read_bytes()


def modules(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*.py'))


def test_modules_are_exported_from_the_notebooks(tmp_path):
    shutil.copytree(ROOT / 'nbs', tmp_path / 'nbs')
    for file in ('settings.ini', 'README.md'): shutil.copy(ROOT / file, tmp_path / file)
    export(tmp_path)
    fresh, committed = tmp_path / 'sparse_probing', ROOT / 'sparse_probing'
    assert modules(fresh) == modules(committed)
    same, *_ = filecmp.cmpfiles(fresh, committed, modules(fresh), shallow=False)
    assert same == modules(fresh), 'run `make sync`'


def test_readme_is_written_from_the_index():
    for path, content in readme(ROOT / 'nbs/index.ipynb').items():
        assert (ROOT / path).read_bytes() == content, 'run `make sync`'


def code_cells():
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text())['cells']:
            if cell['cell_type'] == 'code': yield path, cell, ''.join(cell['source'])


def test_every_figure_has_an_alt_text():
    for path, cell, source in code_cells():
        if not any('image/png' in output.get('data', {}) for output in cell['outputs']): continue
        lines = [line for line in source.splitlines() if line.startswith('#| fig-alt: ')]
        assert lines and len(lines[0]) > 60, f'{path.name}: {source[:200]}'


def test_nothing_committed_holds_a_progress_bar():
    for path, cell, source in code_cells():
        streams = {output.get('name') for output in cell['outputs']}
        assert 'stderr' not in streams, f'{path.name}: {source[:200]}'


def test_nothing_committed_holds_an_error():
    for path, cell, source in code_cells():
        types = {output['output_type'] for output in cell['outputs']}
        assert 'error' not in types, f'{path.name}: {source[:200]}'
