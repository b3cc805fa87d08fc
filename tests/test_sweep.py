"""Sweeps that are killed, handed to other backends, or given something else than before."""
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import joblib
import numpy as np
import pytest
from helpers.sweeping import made_up
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tools.sync import ROOT

from sparse_probing import (
    KSparseProbe, SparseProbe, choose, contrast, load_activations, record, save_activations, sweep,
    sweep_map)


@pytest.fixture(scope='module')
def plain(): return sweep(made_up(), KSparseProbe(), [1, 4], n_jobs=1)


def test_a_sweep_finds_where_the_feature_is(plain):
    best = choose(plain).iloc[0]
    assert best.layer == 2
    assert best.test > .95
    assert best.cherry_picked >= best.test
    assert (sweep_map(plain).loc[0] < .75).all()
    assert (plain.gap <= 1e-6).all()


@pytest.mark.parametrize('backend', ['loky', 'threading', 'ray', 'dask'])
def test_any_backend_gives_the_same_table(backend, plain, tmp_path):
    if backend == 'ray':
        import ray
        from ray.util.joblib import register_ray
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False,
                 object_store_memory=200 * 2**20)
        register_ray()
    if backend == 'dask':
        from distributed import Client
        client = Client(n_workers=2, threads_per_worker=1, dashboard_address=None)
    try:
        with joblib.parallel_config(backend=backend):
            table = sweep(made_up(), KSparseProbe(), [1, 4], out=tmp_path, n_jobs=2)
    finally:
        if backend == 'ray': ray.shutdown()
        if backend == 'dask': client.close()
    assert table.equals(plain)
    assert len(list(tmp_path.iterdir())) == 6


def test_a_killed_sweep_goes_on_where_it_was(tmp_path):
    code = ('import sys; sys.path.insert(0, "tests"); from helpers.sweeping import made_up\n'
            'from sparse_probing import SparseProbe, sweep\n'
            f'sweep(made_up(600, 20), SparseProbe(), None, out={str(tmp_path)!r}, n_jobs=1)')
    run = subprocess.Popen([sys.executable, '-c', code], cwd=ROOT, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
    while len(list(tmp_path.glob('*.parquet'))) < 10 and run.poll() is None: time.sleep(.002)
    run.send_signal(signal.SIGKILL)
    run.wait()
    done = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob('*.parquet')}
    assert 10 <= len(done) < 40
    table = sweep(made_up(600, 20), SparseProbe(), None, out=tmp_path, n_jobs=1)
    for name, made in done.items(): assert (tmp_path / name).stat().st_mtime_ns == made
    assert len(list(tmp_path.glob('*.parquet'))) == 40
    assert table.equals(sweep(made_up(600, 20), SparseProbe(), None, n_jobs=2))


def test_what_does_not_fit_is_told_before_anything_is_computed(tmp_path):
    settings = dict(probe=KSparseProbe(), along=[1, 4], out=tmp_path, n_jobs=2)
    sweep(made_up(), **settings)
    for cell in sorted(tmp_path.iterdir())[:5]: cell.unlink()
    with pytest.raises(ValueError, match='made from other data'):
        sweep(made_up(), **settings | dict(seed=1))
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize('change', [
    dict(probe=KSparseProbe(by='random')), dict(along=[1, 8]), dict(cv=4), dict(seed=1),
    dict(test=.4), dict(activations=made_up(200)),
])
def test_other_settings_or_data_are_not_mixed_in(change, tmp_path):
    settings = dict(activations=made_up(), probe=KSparseProbe(), along=[1, 4], out=tmp_path,
                    n_jobs=1)
    sweep(**settings)
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ValueError, match='other data, or with other settings'):
        sweep(**settings | change)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_damaged_cell_is_named(tmp_path):
    sweep(made_up(), KSparseProbe(), [1], out=tmp_path, n_jobs=1)
    cell = next(tmp_path.iterdir())
    cell.write_bytes(cell.read_bytes()[:100])
    with pytest.raises(ValueError, match='is damaged .* delete it'):
        sweep(made_up(), KSparseProbe(), [1], out=tmp_path, n_jobs=1)


def grades():
    """Activations of three classes."""
    activations = made_up()
    return replace(activations, examples=replace(activations.examples, y=np.arange(160) % 3))


@pytest.mark.parametrize('change, message', [
    (dict(probe=KSparseProbe(), along=[13]), 'between 1 and 12'),
    (dict(probe=SparseProbe(), along=[0]), 'C must be'),
    (dict(cv=50), 'layer 0, position -1'),
    (dict(activations={'grades': grades()}), 'task grades: .* got 3 class'),
    (dict(groups=np.arange(3)), '160 rows, 3 groups'),
    (dict(groups=np.arange(160) % 3), 'number of groups'),
    (dict(probe=DummyClassifier(), along=[1]), 'nothing to vary'),
])
def test_bad_input_names_the_cell(change, message):
    arguments = dict(activations=made_up(), n_jobs=1) | change
    with pytest.raises(ValueError, match=message): sweep(**arguments)


def test_any_object_with_settings_and_fits_is_swept_along_them(plain):
    class Renamed(KSparseProbe): pass
    assert sweep(made_up(), Renamed(), [1, 4], n_jobs=1).equals(plain)


def test_a_pipeline_of_one_step_is_its_probe(plain):
    table = sweep(made_up(), make_pipeline(KSparseProbe()), [4, 1], n_jobs=1)
    assert table.equals(plain)


def test_the_settings_are_those_of_the_neurons_that_the_probe_gets():
    pipeline = make_pipeline(StandardScaler(), PCA(3), KSparseProbe())
    assert set(sweep(made_up(), pipeline, cv=2, n_jobs=1).setting) == {1, 2}


def test_activations_of_another_model(tmp_path):
    save_activations(made_up(), tmp_path / 'a.safetensors')
    path = tmp_path / 'a.safetensors'
    assert (load_activations(path, 'made up').X == made_up().X).all()
    with pytest.raises(ValueError, match="of the model 'made up', not of 'smollm2'"):
        load_activations(path, 'smollm2')
    assert os.listdir(tmp_path) == ['a.safetensors']


def test_half_a_file_of_activations(tmp_path):
    path = tmp_path / 'a.safetensors'
    save_activations(made_up(), path)
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    with pytest.raises(ValueError, match='damaged, or no file of activations'):
        load_activations(path)


def test_the_model_makes_up_its_mind_on_the_way_up(lm, tokens):
    examples = contrast(tokens, lm.tokenizer, {'the': ' the', 'an': ' an'}, n=1000, after=0)
    activations = record(lm, examples, layers=[0, 29], positions=(-1, 0))
    table = sweep(activations, along=[.01, .02], cv=3)
    assert (table.gap <= 1e-6).all()
    for value, token_in_view in (('validation', .999), ('test', .99)):
        scores = sweep_map(table, value=value)
        assert scores[-1][0] <= .72
        assert scores[-1][29] >= .78
        assert (scores[0] >= token_in_view).all()
