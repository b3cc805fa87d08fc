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
    if not shutil.which('apt-get'): return 'Slurm was not run: it is not installed, and there is no apt-get to install it with'
    install = ['apt-get', 'install', '-y', '-q', '--no-install-recommends', PACKAGE]
    for command in (install, ['apt-get', 'update', '-q'], install):
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {'DEBIAN_FRONTEND': 'noninteractive'})
    return '' if shutil.which('slurmctld') else f'Slurm was not run: `{" ".join(install)}` failed: {done.stderr[-200:]}'


def free_port():
    with socket.socket() as some:
        some.bind(('127.0.0.1', 0))
        return some.getsockname()[1]


def end(process):
    process.terminate()
    try: process.wait(10)
    except subprocess.TimeoutExpired: process.kill()


@contextmanager
def slurm():
    """Start the daemons, wait until the node is idle, and point the commands of Slurm at them."""
    folder = Path(tempfile.mkdtemp())
    for name in ('state', 'spool'): (folder / name).mkdir()
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') * 9 // 10 // 2**20
    host = socket.gethostname().partition('.')[0]
    (folder / 'slurm.conf').write_text(SETTINGS.format(host=host, controller=free_port(), node=free_port(), folder=folder, cores=os.cpu_count(), memory=memory))
    os.environ['SLURM_CONF'] = str(folder / 'slurm.conf')
    quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    daemons = [subprocess.Popen([name, '-D', *more, '-f', os.environ['SLURM_CONF']], **quiet) for name, more in (('slurmctld', ['-c']), ('slurmd', []))]
    try:
        deadline = time.monotonic() + 30
        while subprocess.run(['sinfo', '-h', '-o', '%T'], capture_output=True, text=True).stdout.strip() != 'idle':
            if time.monotonic() > deadline: raise RuntimeError(''.join(log.read_text()[-2000:] for log in folder.glob('*.log')))
            time.sleep(.1)
        yield folder
    finally:
        subprocess.run(['scancel', '-f', '-u', 'root'], capture_output=True)
        for daemon in reversed(daemons): end(daemon)
        del os.environ['SLURM_CONF']
        shutil.rmtree(folder, ignore_errors=True)
