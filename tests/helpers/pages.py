"""What a page in a browser owes its reader: to be read by everyone, and to fit its window."""
from axe_playwright_python.sync_playwright import Axe

BRIEF = {'resultTypes': ['violations']} # axe need not list all that is in order

# What lies beyond the right edge of a narrow window, where no box of its own scrolls it into view.
CUT_OFF = '''() => [...document.querySelectorAll('main *')].filter(element => {
  if (element.getBoundingClientRect().right <= innerWidth + 1) return false;
  if (element.closest('.visually-hidden')) return false;
  for (let box = element; box.tagName !== 'MAIN'; box = box.parentElement)
    if (/auto|scroll/.test(getComputedStyle(box).overflowX)) return false;
  return true;
}).map(element => element.outerHTML.slice(0, 200))'''


def violations(tab):
    """What axe finds, beyond what is minor."""
    return [f'{violation["id"]}: {node["html"][:200]}'
            for violation in Axe().run(tab, options=BRIEF).response['violations']
            if violation['impact'] != 'minor' for node in violation['nodes'][:9]]
