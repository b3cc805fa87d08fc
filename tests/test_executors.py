"""Runs that end, whatever becomes of their workers: on this machine, on Ray and on Slurm."""
import os
import subprocess
import sys
import time

import psutil
import pytest
from helpers import slurm_node

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
    (folder / 'own_steps.py').write_text(STEPS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYTHONPATH', f'{folder}:{os.environ.get("PYTHONPATH", "")}')
        patch.syspath_prepend(str(folder))
        import own_steps
        yield own_steps


@pytest.fixture(scope='module')
def ray_cluster(steps):
    import ray
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level='ERROR',
             object_store_memory=200 * 2**20)
    yield
    ray.shutdown()


@pytest.fixture(scope='module')
def slurm_cluster(steps):
    if reason := slurm_node.missing(): pytest.skip(reason)
    with slurm_node.slurm(): yield


@pytest.fixture(params=['local', 'ray', 'slurm'])
def kind(request):
    if request.param != 'local': request.getfixturevalue(f'{request.param}_cluster')
    return request.param


def run(kind, step, folder, ranks=3, watch=lambda: None):
    """Run a step of this folder, two ranks at a time."""
    return engine(kind, [step], ranks, 2, 1, folder / 'log').run(watch)


def done(folder): return sorted(p.name for p in folder.glob('*.done'))


def wait_for(reached, seconds=60):
    """Wait until something is so; an error where it does not become so."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(.02)


@pytest.fixture
def failed_once(kind, steps, tmp_path):
    """What is said of a run whose rank 1 raised an error."""
    with pytest.raises(RuntimeError) as error: run(kind, steps.Odd(tmp_path), tmp_path)
    return str(error.value)


def test_a_failed_rank_is_named_and_is_run_again(kind, failed_once, steps, tmp_path, capfd):
    message = '1 of 3 ranks failed, the others are done: rank 1: ValueError: one is odd'
    assert failed_once.startswith(message)
    assert 'run the same again' in failed_once
    assert done(tmp_path) == ['0.done', '2.done'], 'the others finish'
    (tmp_path / '0.done').unlink()
    looks = []
    stats = run(kind, steps.Fine(tmp_path), tmp_path,
                watch=lambda: looks.append(progress(tmp_path / 'log')))
    assert done(tmp_path) == ['1.done', '2.done']
    assert looks[-1] == {'begun': 3}, 'the driver knows how far all ranks are'
    assert stats.to_json() is not None
    assert not list((tmp_path / 'log/errors').iterdir())
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ('', ''), 'the terminal stays quiet'
    if kind != 'slurm': # whose own log has it
        assert 'noise' in (tmp_path / 'log/logs/printed_00001.txt').read_text()


def test_a_rank_whose_worker_was_killed_is_run_again(kind, steps, tmp_path):
    run(kind, steps.DieOnce(tmp_path), tmp_path)
    assert done(tmp_path) == ['0.done', '1.done', '2.done']


@pytest.mark.parametrize('make', [Local, Ray])
def test_a_worker_that_hangs_is_given_up(make, steps, tmp_path, request):
    if make is Ray: request.getfixturevalue('ray_cluster')
    words = dict(tasks=1, workers=1, logging_dir=str(tmp_path / 'log'))
    began = time.monotonic()
    with pytest.raises(TimeoutError, match='no sign of life for 2 s, the workers were stopped'):
        make([steps.Slow(tmp_path)], **words, patience=2.).run()
    assert time.monotonic() - began < 30, 'it does not wait for the step'
    (tmp_path / '0.begun').touch() # on a slow machine the worker may not have come so far
    make([steps.Slow(tmp_path)], **words).run()
    assert done(tmp_path) == ['0.done'], 'the next run has workers again'


def test_a_driver_that_is_killed_takes_its_workers_along(steps, tmp_path):
    script = tmp_path / 'script.py' # without the usual guard: a worker does not run it again
    script.write_text('from own_steps import Slow; from sparse_probing.executors import engine\n'
                      f'steps, logs = [Slow({str(tmp_path)!r})], {str(tmp_path / "log")!r}\n'
                      'engine("local", steps, 2, 2, 1, logs).run()')
    driver = subprocess.Popen([sys.executable, str(script)])
    wait_for(lambda: len(list(tmp_path.glob('*.begun'))) == 2)
    children = psutil.Process(driver.pid).children(recursive=True)
    assert len(children) >= 2
    driver.kill()
    driver.wait()
    assert not psutil.wait_procs(children, timeout=10)[1]
    assert not done(tmp_path)
    subprocess.run([sys.executable, str(script)], check=True, timeout=60)
    assert done(tmp_path) == ['0.done', '1.done'], 'the next driver goes on'


def test_ray_is_asked_first_whether_it_has_the_processors(ray_cluster, steps, tmp_path):
    message = "no node of the Ray cluster has what one rank asks for, {'CPU': 64"
    with pytest.raises(RuntimeError, match=message):
        engine('ray', [steps.Fine(tmp_path)], 1, 1, 64, tmp_path / 'log').run()


def test_a_driver_of_slurm_finds_its_job_again(slurm_cluster, steps, tmp_path):
    code = ('from own_steps import Fine; from sparse_probing.executors import engine\n'
            f'steps, logs = [Fine({str(tmp_path)!r})], {str(tmp_path / "log")!r}\n'
            'engine("slurm", steps, 1, 1, 1, logs).run()')
    driver = subprocess.Popen([sys.executable, '-c', code])
    wait_for((tmp_path / 'log/job.txt').exists)
    job = int((tmp_path / 'log/job.txt').read_text())
    driver.kill()
    driver.wait()
    run('slurm', steps.Fine(tmp_path), tmp_path, ranks=1)
    all_jobs = ['squeue', '-h', '-t', 'all', '-o', '%A']
    jobs = subprocess.run(all_jobs, capture_output=True, text=True).stdout.split()
    assert done(tmp_path) == ['0.done']
    assert max(map(int, jobs)) == job, 'no second job was submitted'


def test_slurm_says_why_a_job_cannot_start(slurm_cluster, steps, tmp_path):
    logs = str(tmp_path / 'log')
    with pytest.raises((RuntimeError, subprocess.CalledProcessError)):
        Slurm([steps.Fine(tmp_path)], tasks=1, cpus_per_task=1000, logging_dir=logs).run()


def test_where_there_is_no_slurm_an_error_says_what_to_take(monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', '/nowhere')
    with pytest.raises(FileNotFoundError, match="there is no sbatch here: take 'local' or 'ray'"):
        engine('slurm', [], 1, 1, 1, tmp_path)


def test_another_word_is_refused(tmp_path):
    with pytest.raises(ValueError, match='choose one of local, ray, slurm'):
        engine('dask', [], 1, 1, 1, tmp_path)


def test_reports_of_a_remote_folder():
    report_progress('memory://run', 0, final=True, documents=2)
    assert progress('memory://run') == {'documents': 2}
