"""What tests of harvests share: an executor without processes, corpora, and comparisons."""
import gzip
import hashlib
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sparse_probing import harvest

TARGETS = {'the': ' the', 'an': ' an'}
SENTENCE = ('It was said in the town that the old bridge over the river would have to be closed '
            'for an hour on the first day of the week. ') * 3


class Inline:
    """An executor without processes: one rank after the other, here. The names are datatrove's."""
    def __init__(self, pipeline, tasks, **others): self.pipeline, self.ranks = pipeline, tasks
    def run(self, watch):
        for rank in range(self.ranks):
            data = None
            for step in self.pipeline: data = step(data, rank, self.ranks)
            watch()


here = partial(harvest, executor=Inline, threads=2, ranks=1)


def off(a, b):
    """The largest difference, as a share of the largest value."""
    return abs(a - b).max() / abs(b).max()


def furthest(store, other):
    """The largest difference of two stores, over all layers and positions."""
    keys = [(layer, position) for layer in store.layers for position in store.positions]
    return max(off(store.at(*key), other.at(*key)) for key in keys)


def same(store, other):
    """Whether two stores, or a store and activations, have the same vectors, bit for bit."""
    keys = [(layer, position) for layer in store.layers for position in store.positions]
    return all(np.array_equal(store.at(*key), other.at(*key)) for key in keys)


def content(out):
    """File name -> checksum, of all that is the store; the log of the run is not."""
    files = [p for p in sorted(Path(out).rglob('*')) if p.is_file()]
    stored = [p for p in files if p.relative_to(out).parts[0] != 'run']
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in stored}


def write_texts(folder, name, texts, column='text'):
    """A Parquet file of documents, each with an id."""
    folder.mkdir(exist_ok=True)
    ids = [f'{name}/{k}' for k in range(len(texts))]
    pq.write_table(pa.table({column: texts, 'id': ids}), folder / f'{name}.parquet')
    return folder / f'{name}.parquet'


def zstd(content): return pa.compress(content, 'zstd', asbytes=True)


def write_lines(folder, ending, lines):
    """A file `a.jsonl` of lines, bytes each, compressed as its ending says."""
    folder.mkdir(parents=True, exist_ok=True)
    packed = {'.gz': gzip.compress, '.zst': zstd}.get(ending, bytes)(b'\n'.join(lines))
    (folder / f'a.jsonl{ending}').write_bytes(packed)
    return folder
