"""Code in a process of its own."""
import subprocess
import sys


def python(code, environment=None):
    """Run code in a fresh process with a whole environment of its own, or this one."""
    command = [sys.executable, '-c', code]
    return subprocess.run(command, env=environment, capture_output=True, text=True)
