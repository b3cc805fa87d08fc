"""What the package computes from fixed input, as checksums and as a few numbers each.

`python tests/helpers/kept.py` keeps them anew. Run it only where results are meant to change:
`test_kept.py` compares every run with what was kept.
"""
import json
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from llvmlite import binding

KEPT = Path(__file__).with_name('kept.json')
TARGETS = {'the': ' the', 'an': ' an'}


def machine() -> str:
    """What decides the last digits of a number: the processor, and how many threads share a sum."""
    instructions = torch.backends.cpu.get_cpu_capability()
    return f'{binding.get_host_cpu_name()}, torch {instructions}, {torch.get_num_threads()} threads'


def digest(content: bytes) -> str: return blake2b(content, digest_size=16).hexdigest()


def gist(values: np.ndarray) -> list[float]:
    """Six numbers that hardly move with the last digits of an array: size, sums, some elements."""
    flat = np.nan_to_num(np.asarray(values, float).ravel(), nan=-1, posinf=1e9, neginf=-1e9)
    return [flat.size, flat.sum(), abs(flat).sum(), *flat[[0, flat.size // 3, flat.size // 2]]]


def of_array(values: np.ndarray) -> dict:
    return {'digest': digest(np.ascontiguousarray(values).tobytes()), 'gist': gist(values)}


def of_table(table: pd.DataFrame) -> dict:
    """Names and texts are part of the checksum; the numbers are the gist."""
    numbers = table.select_dtypes('number').to_numpy()
    return {'digest': digest(table.to_csv().encode()), 'gist': gist(numbers)}


def of_folder(folder: Path, pattern: str) -> dict:
    """Names and bytes of the files of a folder."""
    files = sorted(folder.rglob(pattern))
    assert files, f'{folder} has no {pattern}'
    content = b''.join(path.relative_to(folder).as_posix().encode() + path.read_bytes()
                       for path in files)
    return {'digest': digest(content), 'gist': [len(files)]}


def of_cells(folder: Path) -> dict:
    """What the cells of a sweep hold.

    What they were made from is put down with the source of the probe, which may change.
    """
    tables = {path.name: pq.read_table(path).replace_schema_metadata(None)
              for path in sorted(folder.glob('*.parquet'))}
    content = b''.join(name.encode() + table.to_pandas().to_csv().encode()
                       for name, table in tables.items())
    return {'digest': digest(content), 'gist': [len(tables), sum(map(len, tables.values()))]}


def drawn(n: int = 240, d: int = 96) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Activations whose every digit is the same on any machine, three classes, and documents."""
    rng = np.random.default_rng(7)
    X, y = rng.integers(-512, 512, (n, d)), rng.integers(0, 3, n)
    X[:, 3] += 300 * y
    X[:, 11] -= 150 * (y == 1)
    return (X / 256).astype(np.float32), y, np.repeat(np.arange(n // 4), 4)


def readings(lm, examples, folder: Path) -> Iterator[tuple[str, dict]]:
    """Recorded activations of each site, and the file of them."""
    from sparse_probing import record, save_activations
    for site in ('neurons', 'mlp', 'attention', 'residual'):
        yield f'record {site}', of_array(record(lm, examples, (0, 3), (-2, 0), site).X)
    save_activations(record(lm, examples, 3), folder / 'activations.safetensors')
    yield 'save_activations', of_folder(folder, 'activations.safetensors')


def stores(lm, folder: Path) -> Iterator[tuple[str, dict]]:
    """Harvests of windows and of chunks: vectors, table of rows and manifest."""
    from sparse_probing import harvest
    asked = {
        'windows': dict(targets=TARGETS, layers=(0, 2), positions=(-1, 0), limit=8),
        'chunks': dict(targets=TARGETS | {'any': 40}, layers=1, context=64, limit=5,
                       dtype='float16', bos=True, shard_tokens=600),
    }
    for name, words in asked.items():
        targets = words.pop('targets')
        store = harvest('news', lm, targets, out=folder / name, workers=2, ranks=2, **words)
        yield f'harvest {name}: values', of_array(store.at(store.layers[-1], 0))
        for pattern in ('*.safetensors', 'rows.parquet', 'manifest.json'):
            yield f'harvest {name}: {pattern}', of_folder(folder / name, pattern)


def paths() -> Iterator[tuple[str, dict]]:
    """Everything that is fitted or ranked on one matrix."""
    from sparse_probing import (
        KSparseProbe, SparseProbe, baselines, best_subset, duality_gap, evaluate, k_curve, l1_path,
        rank_neurons, sparsity_path, split)
    X, y, groups = drawn()
    two = y > 0
    path = sparsity_path(X, two, cv=3, groups=groups)
    yield 'sparsity_path: table', of_table(path.table)
    yield 'sparsity_path: coefficients', of_array(path.fits.coef.toarray())
    yield 'sparsity_path: neurons', of_array(path.neurons())
    rounded = l1_path(X.astype(np.float16), two, [1., 10.])
    yield 'l1_path of half precision', of_array(rounded.coef.toarray())
    gap = duality_gap(X, two, np.full(X.shape[1], .01), 0., 1.)
    yield 'duality_gap', of_array(np.array([gap]).ravel())
    train, test = split(y, groups)
    for probe in (SparseProbe(C=3.), SparseProbe(C=3., class_weight='balanced')):
        yield f'{probe}', of_array(probe.fit(X[train], y[train]).predict_proba(X[test]))
    mean_difference = baselines()['mean difference']
    for probe in (KSparseProbe(k=3), KSparseProbe(k=3, refit='means'), mean_difference):
        probe.fit(X[train], two[train])
        yield f'{probe}: evaluate', of_table(evaluate(probe, X[test], two[test], 50))
    for by in ('mean difference', 'F', 'mutual information', 'l1', 'adaptive', 'random'):
        yield f'rank_neurons by {by}', of_array(rank_neurons(X, two, by))
    yield 'k_curve', of_table(k_curve(X, two, [1, 2, 8], ['F', 'adaptive'], 3, groups))
    for k in (1, 2, 4):
        subset = best_subset(X, two, k)
        yield f'best_subset of {k}', of_array(np.r_[subset.neurons, subset.objective, subset.bound])


def sweeps(folder: Path) -> Iterator[tuple[str, dict]]:
    """A sweep with each kind of probe, and the cells that it keeps."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sparse_probing import (
        Activations, Examples, KSparseProbe, MeanDifference, best_settings, choose, sweep)
    X, y, groups = drawn()
    n, two = len(y), (y > 0).astype(int)
    ids = np.zeros((n, 2), np.int32)
    examples = Examples(ids, np.full(n, 2), np.ones(n, int), two, groups, ('no', 'yes'))
    layers = np.stack([X, X[:, ::-1] * 2]).swapaxes(0, 1)[:, :, None]
    activations = Activations(layers, examples, (0, 1), (0,), 'neurons', 'drawn')
    probes = {
        'default': None,
        'k-sparse': KSparseProbe(),
        'weighted': make_pipeline(StandardScaler(), KSparseProbe(class_weight='balanced')),
        'mean difference': MeanDifference(),
    }
    for name, probe in probes.items():
        table = sweep(activations, probe, cv=3, out=folder / name, n_jobs=2)
        yield f'sweep, {name}: table', of_table(table)
        yield f'sweep, {name}: cells', of_cells(folder / name)
    yield 'best_settings', of_table(best_settings(table))
    yield 'choose', of_table(choose(table))


def everything(lm, examples, folder: Path) -> dict[str, dict]:
    """All of it, by name."""
    read = dict(readings(lm, examples, folder)) | dict(stores(lm, folder / 'stores'))
    return read | dict(paths()) | dict(sweeps(folder / 'sweeps'))


def keep() -> None:
    """Write what this machine gives; what others gave stays where nothing changed here."""
    from sparse_probing import contrast, load_lm, read_documents, tokenize
    lm = load_lm()
    examples = contrast(tokenize(read_documents('wiki'), lm.tokenizer), lm.tokenizer, TARGETS, 20)
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    before = kept.pop(machine(), {})
    with TemporaryDirectory() as folder: now = everything(lm, examples, Path(folder))
    changed = {name for name in now if now[name]['digest'] != before.get(name, {}).get('digest')}
    for others in kept.values():
        for name in changed & {*others}: others[name].pop('digest', None)
    kept[machine()] = now
    KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + '\n')


if __name__ == '__main__': keep()
