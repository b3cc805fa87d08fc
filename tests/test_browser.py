"""The browser of the tests: the first way that works is taken and told, and so is what fails."""
from concurrent.futures import ThreadPoolExecutor

import pytest

from tools import browser


def apart(call):
    """Call in a thread of its own: Playwright starts only once in each, and others may have it."""
    with ThreadPoolExecutor(1) as pool: return pool.submit(call).result()


def test_what_does_not_start_is_passed_over(tmp_path, monkeypatch):
    stub = tmp_path / 'chromium'
    stub.write_text('#!/bin/sh\necho install the snap; exit 1\n') # as Ubuntu has it
    stub.chmod(0o755)
    path, version = apart(browser.starting)
    monkeypatch.setattr(browser, 'present', lambda: [str(stub), path])
    assert apart(browser.starting) == (path, version)
    monkeypatch.setattr(browser, 'present', lambda: [str(stub)])
    assert apart(browser.starting) is None


def test_one_that_is_there_is_told(monkeypatch):
    monkeypatch.setattr(browser, 'ways', lambda: pytest.fail('nothing is to be brought'))
    path, version = apart(browser.starting)
    assert apart(browser.bring) == browser.line_about(path, version, 'there already')


def test_the_line_has_path_and_version():
    assert browser.line_about('/usr/bin/x', '1.2', 'here') == 'Chromium 1.2: /usr/bin/x, here'
    assert browser.line_about(None, '1.2', 'here') == 'Chromium 1.2: of Playwright, here'


@pytest.fixture
def ways(tmp_path, monkeypatch):
    """Two ways of bringing a browser that fail, one that works, and one that is never come to."""
    brought = tmp_path / 'here'
    ways = [('a download', ['sh', '-c', 'echo no network >&2; exit 3']), ('an empty one', ['true']),
            ('a manager', ['touch', str(brought)]), ('never', ['false'])]
    def starting(): return ('/usr/bin/chromium', '1.2') if brought.exists() else None
    monkeypatch.setattr(browser, 'ways', lambda: ways)
    monkeypatch.setattr(browser, 'starting', starting)
    return ways


def test_ways_are_tried_in_order_up_to_one_that_works(ways, capsys):
    assert browser.bring() == 'Chromium 1.2: /usr/bin/chromium, brought by a manager'
    lines = capsys.readouterr().out.splitlines()
    names = [line.rpartition(' trying ')[2] for line in lines]
    assert names == ['a download', 'an empty one', 'a manager']


@pytest.mark.parametrize('line', [
    'install Chromium or Chrome',
    'a download: exit code 3: no network',
    'an empty one: what it brought does not start',
])
def test_where_no_way_works_each_failure_is_told(ways, line):
    del ways[2:]
    with pytest.raises(SystemExit, match=line): browser.bring()


def test_a_way_that_hangs_is_given_up():
    hangs = ['sh', '-c', 'sleep 600 & sleep 600']
    assert browser.trouble_of(hangs, patience=.3) == 'no end after 0.3 s'


def test_a_way_that_works_has_no_trouble(): assert browser.trouble_of(['true']) == ''


def test_a_way_that_fails_says_its_exit_code():
    assert browser.trouble_of(['sh', '-c', 'exit 2']) == 'exit code 2: '


@pytest.mark.parametrize('programs, root, wanted', [
    ([], True, None),
    (['apt-get'], True, 'apt-get'),
    (['apt-get'], False, None),
    (['dnf', 'sudo'], False, 'dnf'),
    (['brew'], False, 'brew'),
    (['apk', 'pacman'], True, 'pacman'),
])
def test_a_package_manager_is_asked_where_it_may(programs, root, wanted, tmp_path, monkeypatch):
    for program in programs:
        (tmp_path / program).write_text('#!/bin/sh\n')
        (tmp_path / program).chmod(0o755)
    def which(name): return str(tmp_path / name) if (tmp_path / name).exists() else None
    monkeypatch.setenv('PATH', str(tmp_path) if 'sudo' not in programs else f'{tmp_path}:/bin')
    monkeypatch.setattr(browser.shutil, 'which', which)
    monkeypatch.setattr(browser.os, 'geteuid', lambda: 0 if root else 1000)
    name, command = browser.manager() or (None, '')
    assert name == wanted
    assert command.startswith('sudo -n ' if 'sudo' in programs else '')
    if wanted: assert 'chromium' in command
