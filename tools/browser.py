"""The browser that the site is tested in: `make test` brings it, by the first way that works."""
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from tempfile import TemporaryFile

from playwright.sync_api import Error, sync_playwright

NAMES = 'chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome'
PLACES = ('/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
          '/Applications/Chromium.app/Contents/MacOS/Chromium')
FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
         '--disable-background-networking', '--disable-component-update', '--disable-sync']
DOWNLOAD = [sys.executable, '-m', 'playwright', 'install', '--only-shell', 'chromium']
MANAGERS = { # program -> what installs Chromium with it
    'apt-get': 'apt-get update --quiet && '
               'apt-get install --quiet --yes --no-install-recommends chromium',
    'dnf': 'dnf install --assumeyes chromium',
    'zypper': 'zypper --non-interactive install chromium',
    'pacman': 'pacman -Sy --noconfirm chromium',
    'apk': 'apk add chromium',
    'brew': 'brew install --cask chromium',
}
UNATTENDED = {'DEBIAN_FRONTEND': 'noninteractive',
              'PLAYWRIGHT_DOWNLOAD_CONNECTION_TIMEOUT': '10000'} # milliseconds
PATIENCE = 600 # seconds for one way of bringing a browser: a hung download must not hang the tests


def present() -> list[str | None]:
    """The browsers of this machine that may do; None, at the end, is Playwright's own."""
    return [*filter(None, map(shutil.which, NAMES)), *filter(os.path.exists, PLACES), None]


def launch(playwright, path: str | None):
    """A browser that was started; playwright's Error where it does not start."""
    return playwright.chromium.launch(executable_path=path, args=FLAGS)


def starting() -> tuple | None:
    """The path (None for Playwright's own) and version of the first browser that starts."""
    with sync_playwright() as playwright:
        for path in present():
            try: browser = launch(playwright, path)
            except Error: continue
            version = browser.version
            browser.close()
            return path, version
    return None


def manager() -> tuple[str, str] | None:
    """The package manager that may install here, and the command.

    It may as root, by sudo without a password, and where it is brew, which needs neither.
    """
    for name, command in MANAGERS.items():
        if not shutil.which(name): continue
        if name == 'brew' or os.geteuid() == 0: return name, command
        if sudo_works(): return name, f"sudo -n sh -c '{command}'"
    return None


def sudo_works() -> bool:
    """Whether sudo is there and asks for no password."""
    if not shutil.which('sudo'): return False
    command = ['sudo', '-n', 'true']
    return not subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL).returncode


def trouble_of(command: list[str], patience: float = PATIENCE) -> str:
    """Run a command; what it said last where it failed, or that it took too long."""
    environment = os.environ | UNATTENDED
    with TemporaryFile('w+') as output: # a pipe would stay open as long as any child of the command
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL,
                                   stdout=output, stderr=output, start_new_session=True)
        try: process.wait(patience)
        except subprocess.TimeoutExpired:
            with suppress(PermissionError): # what sudo runs is not ours to end
                os.killpg(process.pid, signal.SIGKILL)
            return f'no end after {patience:g} s'
        output.seek(0)
        lines = output.read().strip().splitlines() or ['']
    return f'exit code {process.returncode}: {lines[-1]}' if process.returncode else ''


def ways():
    """Each way of bringing a browser: its name, and the command."""
    yield "Playwright's own download", DOWNLOAD
    if installer := manager():
        name, command = installer
        yield name, ['sh', '-c', command]


def bring() -> str:
    """See to it that a browser starts, and say which; exit with what to do where no way works."""
    if browser := starting(): return line_about(*browser, 'there already')
    failures = []
    for name, command in ways():
        print(f'Chromium: none starts here, trying {name}', flush=True)
        trouble = trouble_of(command)
        browser = None if trouble else starting()
        if browser: return line_about(*browser, f'brought by {name}')
        failures.append(f'{name}: {trouble or "what it brought does not start"}')
    sys.exit('The site is tested in Chromium, and no way to bring it worked: install Chromium or '
             f'Chrome so that one of {", ".join(NAMES)} is on the path.\n' + '\n'.join(failures))


def line_about(path: str | None, version: str, how: str) -> str:
    """The line that says which browser it is."""
    return f"Chromium {version}: {path or 'of Playwright'}, {how}"


if __name__ == '__main__': print(bring())
