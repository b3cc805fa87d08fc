"""The browser of the tests: the first way that works is taken, and is told; what fails is told too."""
from concurrent.futures import ThreadPoolExecutor

from tools import browser
import pytest


def apart(call):
    """Call in a thread of its own: Playwright starts only once in each, and the tests of the site may have it."""
    with ThreadPoolExecutor(1) as pool: return pool.submit(call).result()


def test_what_does_not_start_is_passed_over(tmp_path, monkeypatch):
    (stub := tmp_path / 'chromium').write_text('#!/bin/sh\necho install the snap; exit 1\n') # as Ubuntu has it
    stub.chmod(0o755)
    path, version = apart(browser.starting)
    monkeypatch.setattr(browser, 'present', lambda: [str(stub), path])
    assert apart(browser.starting) == (path, version)
    monkeypatch.setattr(browser, 'present', lambda: [str(stub)])
    assert apart(browser.starting) is None


def test_one_that_is_there_is_told(monkeypatch):
    monkeypatch.setattr(browser, 'ways', lambda: pytest.fail('nothing is to be brought'))
    path, version = apart(browser.starting)
    assert apart(browser.bring) == browser.told(path, version, 'there already') and version in browser.told(path, version, '')


def test_ways_are_tried_in_order_and_each_failure_is_told(tmp_path, monkeypatch, capsys):
    ways = [('a download', ['sh', '-c', 'echo no network >&2; exit 3']), ('an empty one', ['true']), ('a manager', ['touch', str(tmp_path / 'here')]), ('never', ['false'])]
    monkeypatch.setattr(browser, 'ways', lambda: ways)
    monkeypatch.setattr(browser, 'starting', lambda: ('/usr/bin/chromium', '1.2') if (tmp_path / 'here').exists() else None)
    assert browser.bring() == 'Chromium 1.2: /usr/bin/chromium, brought by a manager'
    assert [line.rpartition(' trying ')[2] for line in capsys.readouterr().out.splitlines()] == ['a download', 'an empty one', 'a manager']
    (tmp_path / 'here').unlink()
    monkeypatch.setattr(browser, 'ways', lambda: ways[:2])
    with pytest.raises(SystemExit) as end: browser.bring()
    for line in ('install Chromium or Chrome', 'a download: exit code 3: no network', 'an empty one: what it brought does not start'): assert line in str(end.value)


def test_a_way_that_hangs_is_given_up():
    assert browser.tried(['sh', '-c', 'sleep 600 & sleep 600'], patience=.3) == 'no end after 0.3 s'
    assert browser.tried(['true']) == '' and browser.tried(['sh', '-c', 'exit 2']) == 'exit code 2: '


@pytest.mark.parametrize('programs, root, wanted', [
    ([], True, None), (['apt-get'], True, 'apt-get'), (['apt-get'], False, None), (['dnf', 'sudo'], False, 'dnf'), (['brew'], False, 'brew'), (['apk', 'pacman'], True, 'pacman')])
def test_a_package_manager_is_asked_only_where_it_may(programs, root, wanted, tmp_path, monkeypatch):
    for program in programs:
        (tmp_path / program).write_text('#!/bin/sh\n')
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path) if 'sudo' not in programs else f'{tmp_path}:/bin')
    monkeypatch.setattr(browser.shutil, 'which', lambda name: str(tmp_path / name) if (tmp_path / name).exists() else None)
    monkeypatch.setattr(browser.os, 'geteuid', lambda: 0 if root else 1000)
    name, command = browser.manager() or (None, '')
    assert name == wanted and command.startswith('sudo -n ' if 'sudo' in programs else '')
    if wanted: assert 'chromium' in command
