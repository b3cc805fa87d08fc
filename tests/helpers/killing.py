"""Harvests in a process of their own, and what kills them."""
import subprocess
import sys
import time
from pathlib import Path

import psutil

JOB = """
import sys
from sparse_probing import harvest, load_lm
out, executor, limit, ranks = sys.argv[1:]
harvest('wiki', load_lm(), {'the': ' the', 'an': ' an'}, out=out, executor=executor,
        limit=int(limit), ranks=int(ranks), workers=2, **WORDS)
"""
WORDS = dict(layers=[0], positions=(-1, 0), context=256, dtype='float16', shard_tokens=3000)
WATCHDOG = 240 # seconds; a run that takes longer hangs
LOOKS_LIKE = 'ray::attempt', 'ray::IDLE' # how Ray calls the processes that do its work


def start(out, executor, limit=12, ranks=5):
    """A driver, in a session of its own."""
    code = JOB.replace('**WORDS', f'**{WORDS!r}')
    command = [sys.executable, '-c', code, str(out), executor, str(limit), str(ranks)]
    return subprocess.Popen(command, start_new_session=True, text=True,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process):
    """Wait for a driver and want it to succeed."""
    _, errors = process.communicate(timeout=WATCHDOG)
    assert process.returncode == 0, errors[-2000:]


def workers(process):
    """The processes that do the work of a driver."""
    working = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try: line = ' '.join(child.cmdline())
        except psutil.Error: continue
        if 'popen_loky' in line or line.startswith(LOOKS_LIKE): working.append(child)
    return working


def kill(process, whom, rng):
    """Kill -9 a worker, the driver, or the driver and all it started; the workers, and how many."""
    working = workers(process)
    everyone = psutil.Process(process.pid).children(recursive=True)
    victims = {'worker': rng.sample(working, min(1, len(working))), 'driver': [process],
               'group': [process, *everyone]}[whom]
    for victim in victims:
        try: victim.kill()
        except (psutil.Error, ProcessLookupError): pass
    return working, len(victims)


def wait_for_file(process, out, sign):
    """Wait until a driver has written a file, or has ended."""
    began = time.monotonic()
    while process.poll() is None and not list(Path(out).glob(sign)):
        assert time.monotonic() - began < WATCHDOG
        time.sleep(.02)


def disturbed(out, executor, whom, sign, after, rng, **size):
    """Run, kill some time after a first file has come, and run again if need be.

    Returns the shards there at the kill, the processes killed, and the seconds in all.
    """
    began, process = time.monotonic(), start(out, executor, **size)
    wait_for_file(process, out, sign)
    time.sleep(after)
    shards = len(list(Path(out).glob('shards/*.safetensors')))
    working, killed = kill(process, whom, rng) if process.poll() is None else ([], 0)
    if whom == 'worker': finish(process)
    else:
        process.wait(WATCHDOG)
        _, left = psutil.wait_procs(working, timeout=20)
        assert not left, f'these go on without their driver: {[p.cmdline() for p in left]}'
        finish(start(out, executor, **size))
    return shards, killed, time.monotonic() - began
