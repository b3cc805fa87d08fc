"""Every notebook runs, gives what is committed, and is what the modules and the README are made from."""
import base64
import filecmp
import json
import re
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from tools.sync import NOTEBOOKS, ROOT, execute_apart, readme
from PIL import Image


def without_pictures(notebook: dict) -> tuple[dict, list[np.ndarray]]:
    """A notebook with its pictures taken out, and the pictures as arrays of pixels."""
    pictures = []
    for cell in notebook['cells']:
        for output in cell.get('outputs', []):
            if png := output.get('data', {}).pop('image/png', None):
                pictures.append(np.asarray(Image.open(BytesIO(base64.b64decode(png))).convert('RGB'), float))
    return notebook, pictures


# What a lesson may take, imports and the model apart: 20 s on two cores where a yardstick takes 45 ms. On a slow machine,
# or a busy one, both take longer.
YARDSTICKS = 440


def own_seconds(run): return [(s, source) for s, source in run['cells'] if not re.search(r'^(from|import) |load_lm\(', source, re.M)]


def total(seconds): return sum(s for s, _ in seconds)


def length(run): return total(own_seconds(run)) / np.mean(run['yardsticks'])


def first_line(source): return next((line for line in source.splitlines() if not line.startswith('#|')), '')[:50]


def measures(run):
    """What is told of a lesson's time."""
    seconds = own_seconds(run)
    slowest = ', '.join(f'{s:.1f} s ({first_line(source)})' for s, source in sorted(seconds, reverse=True)[:3])
    return f'{total(seconds):.1f} s, {length(run):.0f} of at most {YARDSTICKS} yardsticks of {1000 * np.mean(run["yardsticks"]):.0f} ms; the slowest cells {slowest}'


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.relative_to(ROOT / 'nbs').as_posix())
def test_runs_and_gives_what_is_committed(path, tmp_path, tell):
    # A processor with other instructions moves the last digits of an activation and with it the edge of a dot, so
    # pictures are compared by their pixels and everything else to the letter.
    lesson = path.parent.name == 'lessons'
    run = execute_apart(path, tmp_path / path.name, measured=lesson)
    if lesson and length(run) > YARDSTICKS: # something may have come in between the yardsticks
        run = min(run, execute_apart(path, tmp_path / path.name, measured=True), key=length)
    if lesson: tell(f'{path.stem}: {measures(run)}')
    assert not lesson or length(run) <= YARDSTICKS, measures(run)
    fresh, drawn = without_pictures(json.loads((tmp_path / path.name).read_text()))
    committed, kept = without_pictures(json.loads(path.read_text()))
    assert fresh == committed, 'run `make sync`'
    assert [p.shape for p in drawn] == [p.shape for p in kept], 'run `make sync`'
    for a, b in zip(drawn, kept): assert np.abs(a - b).mean() < .5, 'a picture has changed: run `make sync`'


def test_two_runs_give_the_same_bytes(tmp_path):
    lesson = ROOT / 'nbs/lessons/03-examples.ipynb' # draws at random, and has figures
    for name in 'ab': execute_apart(lesson, tmp_path / name)
    assert (tmp_path / 'a').read_bytes() == (tmp_path / 'b').read_bytes()


def test_modules_are_exported_from_the_notebooks(tmp_path):
    for name in ('nbs', 'settings.ini', 'README.md'):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    subprocess.run([Path(sys.executable).with_name('nbdev_export')], cwd=tmp_path, check=True, capture_output=True)
    made, committed = tmp_path / 'sparse_probing', ROOT / 'sparse_probing'
    names = sorted(p.name for p in committed.glob('*.py'))
    assert names == sorted(p.name for p in made.glob('*.py'))
    assert filecmp.cmpfiles(made, committed, names, shallow=False)[0] == names, 'run `make sync`'


def test_readme_is_written_from_the_index():
    for path, content in readme(ROOT / 'nbs/index.ipynb').items(): assert (ROOT / path).read_bytes() == content, 'run `make sync`'


def code_cells():
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text())['cells']:
            if cell['cell_type'] == 'code': yield path, cell, ''.join(cell['source'])


def test_every_figure_has_an_alt_text():
    for path, cell, source in code_cells():
        if any('image/png' in output.get('data', {}) for output in cell['outputs']):
            alt = [line for line in source.splitlines() if line.startswith('#| fig-alt: ')]
            assert alt and len(alt[0]) > 60, f'{path.name}: {source[:200]}'


def test_nothing_committed_holds_an_error_or_a_progress_bar():
    for path, cell, source in code_cells():
        for output in cell['outputs']: assert output.get('name') != 'stderr' and output['output_type'] != 'error', f'{path.name}: {source[:200]}'
