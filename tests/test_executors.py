"""Runs that end, whatever becomes of their workers: on this machine, on Ray and on Slurm."""
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import slurm_node
from sparse_probing.executors import Local, Ray, Slurm, engine, progress, report_progress

STEPS = """
import os, time
from pathlib import Path
from sparse_probing.executors import report_progress

class Step:
    def __init__(self, folder): self.folder = folder
    def __call__(self, data, rank, world_size):
        report_progress(f'{self.folder}/log', rank, final=True, begun=1)
        first = not (Path(self.folder) / f'{rank}.begun').exists()
        (Path(self.folder) / f'{rank}.begun').touch()
        self.work(rank, first)
        (Path(self.folder) / f'{rank}.done').write_text(str(world_size))

class Fine(Step):
    def work(self, rank, first): print('noise')
class Odd(Step):
    def work(self, rank, first):
        if rank == 1: raise ValueError('one is odd')
class DieOnce(Step):
    def work(self, rank, first):
        if rank == 1 and first: os.kill(os.getpid(), 9)
class Slow(Step):
    def work(self, rank, first): time.sleep(60 if first else 0)
"""


@pytest.fixture(scope='module')
def steps(tmp_path_factory):
    """A module of steps that workers can import."""
    folder = tmp_path_factory.mktemp('steps')
    (folder / 'some_steps.py').write_text(STEPS)
    before = os.environ.get('PYTHONPATH', '')
    os.environ['PYTHONPATH'] = f'{folder}:{before}'
    sys.path.insert(0, str(folder))
    import some_steps
    yield some_steps
    sys.path.remove(str(folder))
    os.environ['PYTHONPATH'] = before


@pytest.fixture(scope='module')
def cluster(steps):
    import ray
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200 * 2**20, logging_level='ERROR')
    yield
    ray.shutdown()


@pytest.fixture(scope='module')
def slurm(steps):
    if reason := slurm_node.missing(): pytest.skip(reason)
    with slurm_node.slurm(): yield


@pytest.fixture(params=['local', 'ray', 'slurm'])
def kind(request, steps):
    if request.param == 'ray': request.getfixturevalue('cluster')
    if request.param == 'slurm': request.getfixturevalue('slurm')
    return request.param


def done(folder): return sorted(p.name for p in folder.glob('*.done'))


def test_a_failed_rank_is_named_the_others_finish_and_it_alone_is_run_again(kind, steps, tmp_path, capfd):
    with pytest.raises(RuntimeError, match='1 of 3 tasks failed, the others are done: task 1: ValueError: one is odd') as error:
        engine(kind, [steps.Odd(tmp_path)], 3, 2, 1, tmp_path / 'log').run()
    assert 'run the same again' in str(error.value) and done(tmp_path) == ['0.done', '2.done']
    (tmp_path / '0.done').unlink()
    looks = []
    stats = engine(kind, [steps.Fine(tmp_path)], 3, 2, 1, tmp_path / 'log').run(lambda: looks.append(progress(tmp_path / 'log')))
    assert done(tmp_path) == ['1.done', '2.done'] and looks[-1] == {'begun': 3}
    assert stats.to_json() is not None and not list((tmp_path / 'log/errors').iterdir())
    said = capfd.readouterr()
    assert not said.out and not said.err
    if kind != 'slurm': assert 'noise' in (tmp_path / 'log/logs/printed_00001.txt').read_text()


def test_a_rank_whose_worker_was_killed_is_run_again(kind, steps, tmp_path):
    engine(kind, [steps.DieOnce(tmp_path)], 3, 2, 1, tmp_path / 'log').run()
    assert done(tmp_path) == ['0.done', '1.done', '2.done']


@pytest.mark.parametrize('make', [Local, Ray])
def test_a_worker_that_hangs_is_given_up(make, steps, tmp_path, request):
    if make is Ray: request.getfixturevalue('cluster')
    began = time.monotonic()
    with pytest.raises(TimeoutError, match='no sign of life for 3 s, the workers were stopped'):
        make([steps.Slow(tmp_path)], tasks=1, workers=1, logging_dir=str(tmp_path / 'log'), patience=3.).run()
    assert time.monotonic() - began < 30
    make([steps.Slow(tmp_path)], tasks=1, workers=1, logging_dir=str(tmp_path / 'log'), patience=3.).run()
    assert done(tmp_path) == ['0.done']


def test_a_driver_that_is_killed_takes_its_workers_along(steps, tmp_path):
    script = tmp_path / 'script.py' # without the usual guard: a worker does not run it again
    script.write_text(f'from some_steps import Slow; from sparse_probing.executors import engine\n'
                      f'engine("local", [Slow({str(tmp_path)!r})], 2, 2, 1, {str(tmp_path / "log")!r}).run()')
    driver = subprocess.Popen([sys.executable, str(script)])
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob('*.begun'))) < 2 and time.monotonic() < deadline: time.sleep(.05)
    children = psutil.Process(driver.pid).children(recursive=True)
    assert len(children) >= 2
    driver.kill()
    driver.wait()
    assert not psutil.wait_procs(children, timeout=10)[1] and not done(tmp_path)
    subprocess.run([sys.executable, str(script)], check=True, timeout=60)
    assert done(tmp_path) == ['0.done', '1.done']


def test_ray_is_asked_first_whether_it_has_the_processors(cluster, steps, tmp_path):
    with pytest.raises(RuntimeError, match="no node of the Ray cluster has what one task asks for, {'CPU': 64"):
        engine('ray', [steps.Fine(tmp_path)], 1, 1, 64, tmp_path / 'log').run()


def test_a_driver_of_slurm_finds_its_job_again(slurm, steps, tmp_path):
    code = f'from some_steps import Fine; from sparse_probing.executors import engine; engine("slurm", [Fine({str(tmp_path)!r})], 1, 1, 1, {str(tmp_path / "log")!r}).run()'
    driver = subprocess.Popen([sys.executable, '-c', code])
    deadline = time.monotonic() + 60
    while not (tmp_path / 'log/job.txt').exists() and time.monotonic() < deadline: time.sleep(.02)
    job = (tmp_path / 'log/job.txt').read_text()
    driver.kill()
    driver.wait()
    engine('slurm', [steps.Fine(tmp_path)], 1, 1, 1, tmp_path / 'log').run()
    jobs = subprocess.run(['squeue', '-h', '-t', 'all', '-o', '%A'], capture_output=True, text=True).stdout.split()
    assert done(tmp_path) == ['0.done'] and max(map(int, jobs)) == int(job), 'no second job was submitted'


def test_slurm_says_why_a_job_cannot_start(slurm, steps, tmp_path):
    with pytest.raises((RuntimeError, subprocess.CalledProcessError)):
        Slurm([steps.Fine(tmp_path)], tasks=1, cpus_per_task=1000, logging_dir=str(tmp_path / 'log')).run()


def test_where_there_is_no_slurm_and_no_such_word(monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', '/nowhere')
    with pytest.raises(FileNotFoundError, match="there is no sbatch here: take 'local' or 'ray'"): engine('slurm', [], 1, 1, 1, tmp_path)
    with pytest.raises(ValueError, match='choose one of local, ray, slurm'): engine('dask', [], 1, 1, 1, tmp_path)


def test_reports_of_a_remote_folder():
    report_progress('memory://run', 0, final=True, documents=2)
    assert progress('memory://run') == {'documents': 2}
