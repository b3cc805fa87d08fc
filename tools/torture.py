"""Harvests that are killed again and again, and harvests that grow: `make torture`, for an hour."""
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

JOB = """
import sys
from sparse_probing import harvest, load_lm
out, executor, limit, tasks = sys.argv[1:]
harvest('wiki', load_lm(), {'the': ' the', 'an': ' an'}, layers=[0], positions=(-1, 0),
        context=256, limit=int(limit), dtype='float16', out=out, executor=executor,
        tasks=int(tasks), workers=2, shard_tokens=3000)
"""
WATCHDOG = 240 # seconds; a run that takes longer hangs


def start(out, executor, limit=12, tasks=5):
    """A driver, in a session of its own."""
    command = [sys.executable, '-c', JOB, str(out), executor, str(limit), str(tasks)]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True)


def finish(process):
    """Wait for a driver and want it to succeed."""
    _, errors = process.communicate(timeout=WATCHDOG)
    assert process.returncode == 0, errors[-2000:]


def content(out):
    """File name -> checksum, of all that is the store; the log of the run is not."""
    names = {path.relative_to(out): path for path in sorted(Path(out).rglob('*')) if path.is_file()}
    return {str(name): hashlib.sha256(path.read_bytes()).hexdigest()
            for name, path in names.items() if name.parts[0] != 'run'}


def workers(process):
    """The processes that do the work of a driver."""
    at_work = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try: line = ' '.join(child.cmdline())
        except psutil.Error: continue
        if 'popen_loky' in line or line.startswith(('ray::attempt', 'ray::IDLE')):
            at_work.append(child)
    return at_work


def kill(process, whom, rng):
    """Kill -9 a worker, the driver, or the driver and all that it started.

    Returns the workers there were, and how many processes were killed.
    """
    at_work = workers(process)
    children = psutil.Process(process.pid).children(recursive=True)
    victims = {'worker': rng.sample(at_work, min(1, len(at_work))), 'driver': [process],
               'group': [process, *children]}[whom]
    for victim in victims:
        try: victim.kill()
        except (psutil.Error, ProcessLookupError): pass
    return at_work, len(victims)


def disturbed(out, executor, whom, sign, after, rng, **size):
    """Run, kill some time after a first file has come, run again if need be.

    Returns the shards there were at the kill, the processes killed, and the seconds in all.
    """
    began, process = time.monotonic(), start(out, executor, **size)
    while process.poll() is None and not list(Path(out).glob(sign)):
        assert time.monotonic() - began < WATCHDOG
        time.sleep(.02)
    time.sleep(after)
    shards = len(list(Path(out).glob('shards/*.safetensors')))
    at_work, killed = kill(process, whom, rng) if process.poll() is None else ([], 0)
    if whom == 'worker': finish(process)
    else:
        process.wait(WATCHDOG)
        _, alive = psutil.wait_procs(at_work, timeout=20)
        assert not alive, f'these go on without their driver: {[p.cmdline() for p in alive]}'
        finish(start(out, executor, **size))
    return shards, killed, time.monotonic() - began


def kills(folder, executor, times=20, seed=0):
    """Random kills, each of a new harvest; every store is to be that of an undisturbed harvest."""
    rng, whole = random.Random(seed), Path(folder) / 'whole'
    finish(start(whole, executor))
    for k in range(times):
        whom = ['worker', 'driver', 'group'][k % 3]
        sign = rng.choice(['shards/*.safetensors'] * 3 + ['run/logs/task_*.log'])
        after, out = rng.uniform(0, 2), Path(folder) / f'{k}'
        shards, killed, seconds = disturbed(out, executor, whom, sign, after, rng)
        same = content(out) == content(whole)
        print(f'{executor} {k:2}: {whom:6} killed ({killed} processes) {after:.2f} s after the '
              f'first {Path(sign).name}, {shards} shards there, {seconds:.0f} s in all: '
              f'{"the same store" if same else "ANOTHER STORE"}', flush=True)
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
words = dict(layers=[0], context=256, dtype='float16', tasks=4, workers=workers, threads=threads)
targets = {'the': ' the', 'an': ' an'}
# Before time is taken, workers start and load the model.
harvest(source, lm, targets, out=out + '-warm', limit=40, **words)
began = time.monotonic()
store = harvest(source, lm, targets, out=out, **words)
seconds, stop = time.monotonic() - began, True
thread.join()
began = time.monotonic()
ActivationStore(out)
opened = time.monotonic() - began
shards = len(store.manifest['shards'])
print(len(store), shards, seconds, max(peaks.values()), sum(peaks.values()), opened)
"""


def measured(source, out, workers=2, threads=1):
    """Rows, shards, seconds, MiB of the largest process, MiB of all, seconds to open."""
    command = [sys.executable, '-c', MEASURED, source, out, workers, threads]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=3600)
    assert run.returncode == 0, run.stderr[-2000:]
    return [float(value) for value in run.stdout.split()]


def growth(folder, sizes=(3, 30)):
    """The same text, three times and thirty times over, with two workers; thirty times with one."""
    figures = {}
    for times in sizes:
        out = folder / f'out{times}'
        source = corpus(folder / f'text{times}', times)
        figures[times] = measured(source, out)
        rows, shards, seconds, peak, everything, opened = figures[times]
        size = sum(path.stat().st_size for path in out.rglob('*.safetensors')) / 2**20
        manifest = (out / 'manifest.json').stat().st_size / 1024
        print(f'{times:3} times the text: {rows:,.0f} rows, {shards:.0f} shards, {size:.0f} MiB, '
              f'manifest {manifest:.1f} KiB, {seconds:.1f} s; largest process {peak:.0f} MiB, '
              f'all {everything:.0f} MiB; opened in {1000 * opened:.1f} ms', flush=True)
    alone = measured(source, folder / 'alone', workers=1)
    few, many = figures[sizes[0]], figures[sizes[-1]]
    print(f'memory of {sizes[-1] / sizes[0]:.0f} times the text: {many[3] / few[3]:.3f} of the '
          f'largest process, {many[4] / few[4]:.3f} of all')
    print(f'two workers are {alone[2] / many[2]:.2f} times as fast as one: '
          f'{many[2]:.1f} s and {alone[2]:.1f} s', flush=True)


def shard_of(k):
    """A small shard, packed: 100 rows whose vectors are k, of 100 documents."""
    import numpy as np
    from sparse_probing.store import pack_shard
    names = 'length', 'at', 'label', 'token'
    parts = {name: np.zeros(100, np.int32) for name in names}
    parts |= {'0/0': np.full((100, 64), k, np.float16), 'ids': np.zeros((100, 17), np.int32),
              'place': np.arange(100), 'document': np.arange(100)}
    return pack_shard(parts, {'task': k, 'documents': [f'{k}/{j}' for j in range(100)]})


def thousand(folder):
    """A store of a thousand shards, opened."""
    import numpy as np
    from sparse_probing.store import (
        ActivationStore, digest, get_datafolder, put, to_json, write_rows)
    store, shards = get_datafolder(str(folder / 'thousand')), []
    for k in range(1000):
        name, packed = f'shards/{k:05d}-00000.safetensors', shard_of(k)
        put(store, name, packed)
        shards.append(dict(name=name, rows=100, bytes=len(packed), digest=digest(packed)))
    config = dict(layers=[0], positions=[0], site='neurons', model='none')
    rows = write_rows(store, [shard['name'] for shard in shards], ["' a'"])
    manifest = dict(config=config, classes=['a'], width=64, shards=shards, rows=rows)
    put(store, 'manifest.json', to_json(manifest))
    times = [time.monotonic()]
    opened = ActivationStore(store.path)
    times.append(time.monotonic())
    X = opened.at(0)
    times.append(time.monotonic())
    assert (X[::100, 0] == np.arange(1000)).all()
    print(f'a store of 1,000 shards opens in {times[1] - times[0]:.3f} s; its matrix of '
          f'{len(X):,} rows is read in {times[2] - times[1]:.2f} s', flush=True)


def main(names):
    """What is named, all of it where nothing is."""
    names = names or ['local', 'ray', 'growth', 'thousand']
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for executor in {'local', 'ray'} & {*names}:
            (folder / executor).mkdir()
            kills(folder / executor, executor)
        if 'growth' in names: growth(folder)
        if 'thousand' in names: thousand(folder)


if __name__ == '__main__': main(sys.argv[1:])
