"""The browser that the site is tested in: `make test` brings it, by the first way that works, and says which."""
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from tempfile import TemporaryFile

from playwright.sync_api import Error, sync_playwright

NAMES = 'chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome'
PLACES = '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome', '/Applications/Chromium.app/Contents/MacOS/Chromium'
FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
         '--disable-component-update', '--disable-sync']
DOWNLOAD = [sys.executable, '-m', 'playwright', 'install', '--only-shell', 'chromium']
MANAGERS = { # program -> what installs Chromium with it
    'apt-get': 'apt-get update --quiet && apt-get install --quiet --yes --no-install-recommends chromium',
    'dnf': 'dnf install --assumeyes chromium',
    'zypper': 'zypper --non-interactive install chromium',
    'pacman': 'pacman -Sy --noconfirm chromium',
    'apk': 'apk add chromium',
    'brew': 'brew install --cask chromium',
}
PATIENCE = 600 # seconds for one way of bringing a browser; a download that hangs must not hang the tests


def present() -> list[str | None]:
    """The browsers of this machine that may do, Playwright's own, which it finds by itself, as None at the end."""
    return [*filter(None, map(shutil.which, NAMES)), *filter(os.path.exists, PLACES), None]


def launch(playwright, path: str | None):
    """A browser that was started; playwright's Error where it does not start."""
    return playwright.chromium.launch(executable_path=path, args=FLAGS)


def starting() -> tuple | None:
    """The path (None for Playwright's own) and version of the first browser that starts; a stub or a broken one does not."""
    with sync_playwright() as playwright:
        for path in present():
            try: browser = launch(playwright, path)
            except Error: continue
            version = browser.version
            browser.close()
            return path, version
    return None


def manager() -> tuple[str, str] | None:
    """The package manager that may install here, and the command: as root, by sudo without a password, or brew, which needs neither."""
    for name, command in MANAGERS.items():
        if not shutil.which(name): continue
        if name == 'brew' or os.geteuid() == 0: return name, command
        asked = shutil.which('sudo') and subprocess.run(['sudo', '-n', 'true'], capture_output=True, stdin=subprocess.DEVNULL)
        if asked and asked.returncode == 0: return name, f"sudo -n sh -c '{command}'"
    return None


def tried(command: list[str], patience: float = PATIENCE) -> str:
    """Run a command; what it said last where it failed, or that it took too long."""
    environment = os.environ | {'DEBIAN_FRONTEND': 'noninteractive', 'PLAYWRIGHT_DOWNLOAD_CONNECTION_TIMEOUT': '10000'}
    with TemporaryFile('w+') as output: # no pipe: a child that outlives the command would keep it open
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
        try: process.wait(patience)
        except subprocess.TimeoutExpired:
            with suppress(PermissionError): os.killpg(process.pid, signal.SIGKILL) # what sudo runs is not ours to end
            return f'no end after {patience:g} s'
        output.seek(0)
        lines = output.read().strip().splitlines() or ['']
    return f'exit code {process.returncode}: {lines[-1]}' if process.returncode else ''


def ways():
    """Each way of bringing a browser: its name, and the command."""
    yield "Playwright's own download", DOWNLOAD
    if may := manager(): yield may[0], ['sh', '-c', may[1]]


def bring() -> str:
    """See to it that a browser starts, and say which; exit with what to do where no way works."""
    if ready := starting(): return told(*ready, 'there already')
    failed = []
    for name, command in ways():
        print(f'Chromium: none starts here, trying {name}', flush=True)
        trouble = tried(command)
        if not trouble and (ready := starting()): return told(*ready, f'brought by {name}')
        failed.append(f'{name}: {trouble or "what it brought does not start"}')
    sys.exit('The site is tested in Chromium, and no way to bring it worked: install Chromium or Chrome so that one of '
             f'{", ".join(NAMES)} is on the path.\n' + '\n'.join(failed))


def told(path: str | None, version: str, how: str) -> str:
    """The line that says which browser it is."""
    return f"Chromium {version}: {path or 'of Playwright'}, {how}"


if __name__ == '__main__': print(bring())
