"""Harvests that are killed again and again, and that grow: `make torture`, in about an hour."""
import random
import subprocess
import sys
import time
from pathlib import Path

from helpers.harvesting import content
from helpers.killing import disturbed, finish, start


def kills(folder, executor, times=20, seed=0):
    """Random kills, each of a new harvest; every store is to be that of one left alone."""
    rng, whole = random.Random(seed), Path(folder) / 'whole'
    finish(start(whole, executor))
    for k in range(times):
        out, whom = Path(folder) / f'{k}', ['worker', 'driver', 'group'][k % 3]
        sign = rng.choice(['shards/*.safetensors'] * 3 + ['run/logs/task_*.log'])
        after = rng.uniform(0, 2)
        shards, killed, seconds = disturbed(out, executor, whom, sign, after, rng)
        same = content(out) == content(whole)
        verdict = 'the same store' if same else 'ANOTHER STORE'
        print(f'{executor} {k:2}: {whom:6} killed ({killed} processes) {after:.2f} s after the '
              f'first {Path(sign).name}, {shards} shards there, {seconds:.0f} s in all: {verdict}',
              flush=True)
        assert same


def corpus(folder, times):
    """The embedded text so many times over, a file each."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from sparse_probing import read_documents
    documents = [{'text': d.text, 'id': d.id} for d in read_documents('news', limit=100)]
    folder.mkdir()
    table = pa.Table.from_pylist(documents)
    for k in range(times): pq.write_table(table, folder / f'{k:04d}.parquet')
    return folder


MEASURED = """
import sys, time
import psutil
from sparse_probing import harvest, load_lm, ActivationStore
source, out, workers, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
lm, peaks, stop = load_lm(), {}, False
import threading
def watch():
    while not stop:
        for p in [psutil.Process(), *psutil.Process().children(recursive=True)]:
            try: lines = open(f'/proc/{p.pid}/status').read().splitlines()
            except OSError: continue
            for line in lines:
                if line.startswith('VmHWM'): peaks[p.pid] = int(line.split()[1]) / 1024
        time.sleep(.2)
thread = threading.Thread(target=watch)
thread.start()
words = dict(layers=[0], context=256, dtype='float16', ranks=4, workers=workers, threads=threads)
# workers start, and load the model
harvest(source, lm, {'the': ' the', 'an': ' an'}, out=out + '-warm', limit=40, **words)
began = time.monotonic()
store = harvest(source, lm, {'the': ' the', 'an': ' an'}, out=out, **words)
seconds, stop = time.monotonic() - began, True
thread.join()
began = time.monotonic()
ActivationStore(out)
print(len(store), len(store.manifest['shards']), seconds, max(peaks.values()), sum(peaks.values()),
      time.monotonic() - began)
"""


def measured(source, out, workers=2, threads=1):
    """Rows, shards, seconds, MiB of the largest process, MiB of all, seconds to open."""
    arguments = map(str, (source, out, workers, threads))
    command = [sys.executable, '-c', MEASURED, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=3600)
    assert run.returncode == 0, run.stderr[-2000:]
    return [float(value) for value in run.stdout.split()]


def growth(folder, sizes=(3, 30)):
    """The text three times and thirty times over, with two workers; and thirty times with one."""
    lines = {}
    for times in sizes:
        source = corpus(folder / f'text{times}', times)
        lines[times] = measured(source, folder / f'out{times}')
        rows, shards, seconds, peak, everything, opened = lines[times]
        out = folder / f'out{times}'
        size = sum(p.stat().st_size for p in out.rglob('*.safetensors')) / 2**20
        manifest = (out / 'manifest.json').stat().st_size / 1024
        print(f'{times:3} times the text: {rows:,.0f} rows, {shards:.0f} shards, {size:.0f} MiB, '
              f'manifest {manifest:.1f} KiB, {seconds:.1f} s; largest process {peak:.0f} MiB, '
              f'all {everything:.0f} MiB; opened in {1000 * opened:.1f} ms', flush=True)
    alone = measured(source, folder / 'alone', workers=1)
    few, many = lines[sizes[0]], lines[sizes[-1]]
    print(f'memory of {sizes[-1] / sizes[0]:.0f} times the text: {many[3] / few[3]:.3f} of the '
          f'largest process, {many[4] / few[4]:.3f} of all')
    print(f'two workers are {alone[2] / many[2]:.2f} times as fast as one: '
          f'{many[2]:.1f} s and {alone[2]:.1f} s', flush=True)


def thousand(folder):
    """A store of a thousand shards, opened."""
    import numpy as np
    from sparse_probing.store import (ActivationStore, get_datafolder, shard_name, write_manifest,
                                      write_shard)
    store, shards = get_datafolder(str(folder / 'thousand')), []
    small = {name: np.zeros(100, np.int32) for name in ('length', 'at', 'label', 'token')}
    small |= {'ids': np.zeros((100, 17), np.int32)}
    small |= {name: np.arange(100) for name in ('place', 'document')}
    for k in range(1000):
        about = {'task': k, 'documents': [f'{k}/{j}' for j in range(100)]}
        tensors = small | {'0/0': np.full((100, 64), k, np.float16)}
        shards.append(write_shard(store, shard_name(k, 0), tensors, about))
    config = dict(layers=[0], positions=[0], site='neurons', model='none')
    write_manifest(store, config, ["' a'"], shards, classes=['a'], width=64)
    times = [time.monotonic()]
    opened = ActivationStore(store.path)
    times.append(time.monotonic())
    X = opened.at(0)
    times.append(time.monotonic())
    assert (X[::100, 0] == np.arange(1000)).all()
    print(f'a store of 1,000 shards opens in {times[1] - times[0]:.3f} s; '
          f'its matrix of {len(X):,} rows is read in {times[2] - times[1]:.2f} s', flush=True)


if __name__ == '__main__':
    import tempfile
    what = sys.argv[1:] or ['local', 'ray', 'growth', 'thousand']
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for executor in {'local', 'ray'} & {*what}:
            (folder / executor).mkdir()
            kills(folder / executor, executor)
        if 'growth' in what: growth(folder)
        if 'thousand' in what: thousand(folder)
