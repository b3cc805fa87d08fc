import sys # only until the merge: `python -m tools.sync` took the place of this file
from tools.sync import NOTEBOOKS, ROOT, execute_apart, main, readme # noqa: F401

if __name__ == '__main__': main(sys.argv[1:])
