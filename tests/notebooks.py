"""Execute the notebooks. `make sync` writes what they give; the tests compare it with what is committed."""
import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from sparse_probing.course.runs import fenced

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted(p for p in (ROOT / 'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
FIGURES = 'nbs/figures'


def yardstick() -> float:
    """Seconds of a fixed piece of work like that of the lessons: products of a layer's size, in torch and in numpy, and a loop."""
    import numpy as np
    import torch
    rows, weight, X = torch.full((256, 576), .01), torch.full((1536, 576), .01), np.ones((200, 1536))
    begun = perf_counter()
    for _ in range(3): rows = torch.nn.functional.silu(rows @ weight.T) @ weight
    X.T @ X
    sum(k * k for k in range(60_000))
    return perf_counter() - begun


def execute(source: Path, target: Path, measured: bool = False) -> dict[str, list]:
    """Execute a notebook in this process and write the clean result.

    Returns the seconds and source of each cell; where measured, `yardsticks` has the seconds of one before each of them.
    """
    from execnb.nbio import read_nb, write_nb
    from execnb.shell import CaptureShell
    from nbdev.clean import clean_nb

    def not_evaluated(cell):
        cell.outputs = []
        return re.search(r'^#\| *(eval: *false|slow)\b', cell.source, re.M)

    notebook, shell, seconds, begun, yardsticks = read_nb(source), CaptureShell(source), [], [], []
    if measured: yardstick() # the first one also waits for torch to start its threads

    def skipped(cell):
        skip = cell.cell_type != 'code' or not_evaluated(cell)
        if measured and not skip: yardsticks.append(yardstick())
        begun.append(perf_counter())
        return skip

    os.chdir(source.parent)
    shell.run_all(notebook, exc_stop=True, preproc=skipped, postproc=lambda cell: seconds.append((perf_counter() - begun[-1], cell.source)))
    clean_nb(notebook, allowed_cell_metadata_keys=['tags'])
    write_nb(notebook, target)
    return {'cells': seconds, 'yardsticks': yardsticks}


def execute_apart(source: Path, target: Path, measured: bool = False) -> dict[str, list]:
    """The same in a fresh process, without progress bars."""
    environment = os.environ | {'TQDM_DISABLE': '1', 'COLUMNS': '120', 'TERM': 'dumb'}
    run = subprocess.run([sys.executable, __file__, source, target, *['measured'] * measured], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, f'{source} fails:\n{run.stdout[-2000:]}\n{run.stderr[-4000:]}'
    return json.loads(run.stdout.splitlines()[-1])


def from_root(markdown: str) -> str:
    """Markdown of `nbs/` with its links as seen from the root."""
    return re.sub(r'\]\((?!https?:|#)([^)]+)\)', lambda link: f']({os.path.normpath("nbs/" + link[1])})', markdown)


def readme(index: Path) -> dict[str, bytes]:
    """The README and its figures, by path, from an executed index notebook."""
    parts, files = [], {}
    for cell in json.loads(index.read_text())['cells']:
        source = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown':
            parts.append(from_root(source))
            continue
        if not re.search(r'^#\| *(echo: *false|hide)', source, re.M): parts.append(fenced(source, 'python'))
        alt = re.search(r'#\| fig-alt: (.+)', source)
        for output in cell['outputs']:
            data = output.get('data', {'text/plain': output.get('text', '')})
            if png := data.get('image/png'):
                path = f'{FIGURES}/index-{len(files) + 1}.png'
                files[path] = base64.b64decode(png)
                parts.append(f'![{alt[1]}]({path})')
            elif 'text/markdown' in data: parts.append(from_root(''.join(data['text/markdown'])))
            else: parts.append(fenced(''.join(data['text/plain'])))
    return {'README.md': ('\n\n'.join(parts) + '\n').encode(), **files}


def sync() -> None:
    """Export the modules, execute every notebook in place, and write the README."""
    subprocess.run([Path(sys.executable).with_name('nbdev_export')], cwd=ROOT, check=True)
    for notebook in NOTEBOOKS:
        print(notebook.relative_to(ROOT), flush=True)
        execute_apart(notebook, notebook)
    for path, content in readme(ROOT / 'nbs/index.ipynb').items():
        (ROOT / path).parent.mkdir(exist_ok=True)
        (ROOT / path).write_bytes(content)


if __name__ == '__main__':
    if len(sys.argv) > 2: print('', json.dumps(execute(*(Path(word).resolve() for word in sys.argv[1:3]), 'measured' in sys.argv[3:])), sep='\n')
    else: sync()
