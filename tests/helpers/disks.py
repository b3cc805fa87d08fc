"""File systems of a test's own: small ones, and ones that cannot be written."""
import subprocess
from contextlib import contextmanager

import pytest


@contextmanager
def mounted(folder, *options):
    """A file system of its own, in memory."""
    folder.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', ','.join(options), 'tmpfs', str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode: pytest.skip(f'no file system can be mounted here: {done.stderr.strip()}')
    try: yield folder
    finally: subprocess.run(['umount', '-l', str(folder)], check=True)
