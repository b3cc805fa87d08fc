"""A real Slurm cluster of one node, this machine, for as long as a test needs it."""
import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

PACKAGE = 'slurm-wlm'
SETTINGS = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
SlurmctldPort={controller}
SlurmdPort={node}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0,bf_interval=1
MinJobAge=300
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory}
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing():
    """Why there can be no Slurm here; '' where there can, after installing it if need be."""
    if os.geteuid(): return 'Slurm was not run: its daemons need root'
    if shutil.which('slurmctld') and shutil.which('slurmd'): return ''
    if not shutil.which('apt-get'):
        return 'Slurm was not run: it is not installed, and there is no apt-get to install it with'
    install = ['apt-get', 'install', '-y', '-q', '--no-install-recommends', PACKAGE]
    environment = os.environ | {'DEBIAN_FRONTEND': 'noninteractive'}
    for command in (install, ['apt-get', 'update', '-q'], install):
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if shutil.which('slurmctld'): return ''
    return f'Slurm was not run: `{" ".join(install)}` failed: {done.stderr[-200:]}'


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def end(process):
    process.terminate()
    try: process.wait(10)
    except subprocess.TimeoutExpired: process.kill()


def configured(folder):
    """Write the settings of the node."""
    for name in ('state', 'spool'): (folder / name).mkdir()
    pages = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    settings = SETTINGS.format(host=socket.gethostname().partition('.')[0], folder=folder,
                               controller=free_port(), node=free_port(), cores=os.cpu_count(),
                               memory=pages * 9 // 10 // 2**20)
    (folder / 'slurm.conf').write_text(settings)
    return str(folder / 'slurm.conf')


def wait_until_idle(folder, seconds=60):
    """Wait until the node takes jobs; an error with the logs where it does not."""
    ask, deadline = ['sinfo', '-h', '-o', '%T'], time.monotonic() + seconds
    while subprocess.run(ask, capture_output=True, text=True).stdout.strip() != 'idle':
        if time.monotonic() > deadline:
            raise RuntimeError(''.join(log.read_text()[-2000:] for log in folder.glob('*.log')))
        time.sleep(.1)


@contextmanager
def slurm():
    """Start the daemons, and point the commands of Slurm at them."""
    folder = Path(tempfile.mkdtemp())
    os.environ['SLURM_CONF'] = settings = configured(folder)
    silent = dict.fromkeys(('stdin', 'stdout', 'stderr'), subprocess.DEVNULL)
    commands = ['slurmctld', '-D', '-c', '-f', settings], ['slurmd', '-D', '-f', settings]
    daemons = [subprocess.Popen(command, **silent) for command in commands]
    try:
        wait_until_idle(folder)
        yield folder
    finally:
        subprocess.run(['scancel', '-f', '-u', 'root'], capture_output=True)
        for daemon in reversed(daemons): end(daemon)
        del os.environ['SLURM_CONF']
        shutil.rmtree(folder, ignore_errors=True)
