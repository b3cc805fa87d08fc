"""Execute the notebooks: `make sync` writes what they give, and the tests compare it with that."""
import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from sparse_probing.course.lessons import lesson_minutes, lesson_paths
from sparse_probing.course.runs import fenced

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted(path for path in (ROOT / 'nbs').rglob('*.ipynb')
                   if '.ipynb_checkpoints' not in path.parts)
API = ROOT / 'nbs/reference/api.ipynb'
FIGURES = 'nbs/figures'
# No progress bars, and what is printed is as wide everywhere.
QUIET = {'TQDM_DISABLE': '1', 'COLUMNS': '120', 'TERM': 'dumb'}


def yardstick() -> float:
    """Seconds of a fixed piece of work like that of the lessons: in torch, numpy and Python."""
    import numpy as np
    import torch
    rows, weight = torch.full((256, 576), .01), torch.full((1536, 576), .01)
    X = np.ones((200, 1536))
    start = perf_counter()
    for _ in range(3): rows = torch.nn.functional.silu(rows @ weight.T) @ weight
    X.T @ X
    sum(k * k for k in range(60_000))
    return perf_counter() - start


def not_evaluated(cell) -> bool:
    """Whether a directive of a cell says that it is not to run."""
    return bool(re.search(r'^#\| *(eval: *false|slow)\b', cell.source, re.M))


def execute(source: Path, target: Path, measured: bool = False) -> dict[str, list]:
    """Execute a notebook in this process and write the clean result.

    Returns the seconds and source of each cell; where measured, `yardsticks` has the seconds of
    one before each of them.
    """
    from execnb.nbio import read_nb, write_nb
    from execnb.shell import CaptureShell
    from nbdev.clean import clean_nb

    notebook, shell = read_nb(source), CaptureShell(source)
    cells, yardsticks, starts = [], [], []
    if measured: yardstick() # the first one also waits for torch to start its threads

    def before(cell):
        if cell.cell_type == 'code': cell.outputs = []
        skip = cell.cell_type != 'code' or not_evaluated(cell)
        if measured and not skip: yardsticks.append(yardstick())
        starts.append(perf_counter())
        return skip

    def after(cell): cells.append((perf_counter() - starts[-1], cell.source))

    os.chdir(source.parent)
    shell.run_all(notebook, exc_stop=True, preproc=before, postproc=after)
    clean_nb(notebook, allowed_cell_metadata_keys=['tags'])
    write_nb(notebook, target)
    return {'cells': cells, 'yardsticks': yardsticks}


def execute_apart(source: Path, target: Path, measured: bool = False) -> dict[str, list]:
    """Execute a notebook in a fresh process, without progress bars, and write the clean result."""
    command = [sys.executable, '-m', 'tools.sync', source, target, *['measured'] * measured]
    run = subprocess.run(command, cwd=ROOT, env=os.environ | QUIET, capture_output=True, text=True)
    assert run.returncode == 0, f'{source} fails:\n{run.stdout[-2000:]}\n{run.stderr[-4000:]}'
    return json.loads(run.stdout.splitlines()[-1])


def from_root(markdown: str) -> str:
    """Markdown of `nbs/` with its links as seen from the root."""
    def moved(link): return f']({os.path.normpath("nbs/" + link[1])})'
    return re.sub(r'\]\((?!https?:|#)([^)]+)\)', moved, markdown)


def readme(index: Path) -> dict[str, bytes]:
    """The README and its figures, by path, from an executed index notebook."""
    parts, figures = [], {}
    for cell in json.loads(index.read_text())['cells']:
        source = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown':
            parts.append(from_root(source))
            continue
        shown = not re.search(r'^#\| *(echo: *false|hide)', source, re.M)
        if shown: parts.append(fenced(source, 'python'))
        alt = re.search(r'#\| fig-alt: (.+)', source)
        for output in cell['outputs']:
            data = output.get('data', {'text/plain': output.get('text', '')})
            if png := data.get('image/png'):
                path = f'{FIGURES}/index-{len(figures) + 1}.png'
                figures[path] = base64.b64decode(png)
                parts.append(f'![{alt[1]}]({path})')
            elif 'text/markdown' in data: parts.append(from_root(''.join(data['text/markdown'])))
            else: parts.append(fenced(''.join(data['text/plain'])))
    return {'README.md': ('\n\n'.join(parts) + '\n').encode(), **figures}


def export(root: Path = ROOT) -> None:
    """Write the modules of a checkout from its notebooks, with the docstrings of public names."""
    from tools.docstrings import document
    command = [Path(sys.executable).with_name('nbdev_export')]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    document(root)


def write_minutes(path: Path) -> None:
    """Put on the card of a lesson how long it takes."""
    text, (read, exercises) = path.read_text(), lesson_minutes(path)
    row = rf'\g<1>{read} to read, {exercises} for the exercises |'
    path.write_text(re.sub(r'(\| \*\*Minutes\*\* \| )[^|]*\|', row, text, count=1))


def sync() -> None:
    """Export the modules, execute every notebook in place, and write the README."""
    export()
    for path in lesson_paths(): write_minutes(path)
    for notebook in NOTEBOOKS:
        print(notebook.relative_to(ROOT), flush=True)
        execute_apart(notebook, notebook)
    export() # the examples of the docstrings show what the notebooks gave,
    execute_apart(API, API) # and the API page what the docstrings say
    for path, content in readme(ROOT / 'nbs/index.ipynb').items():
        (ROOT / path).parent.mkdir(exist_ok=True)
        (ROOT / path).write_bytes(content)


def main(words: list[str]) -> None:
    """Synchronise all; given a source and a target, execute one notebook and print its seconds."""
    if not words: return sync()
    source, target, *rest = words
    seconds = execute(Path(source).resolve(), Path(target).resolve(), rest == ['measured'])
    print('', json.dumps(seconds), sep='\n')


if __name__ == '__main__': main(sys.argv[1:])
