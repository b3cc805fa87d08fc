"""What a fresh process loads: those who probe matrices, and their workers, wait for no model."""
import pytest
from helpers.apart import python

HEAVY = {'torch', 'transformers', 'datatrove'}
LOADED = f'import sys; print(*({HEAVY} & sys.modules.keys()))'
WORKER = f"""from joblib import Parallel, delayed
from sparse_probing.sweeps import compute_cell
def loaded(function): # unpickled in a worker, as a sweep's cells are
    import sys
    return function.__module__, *({HEAVY} & sys.modules.keys())
for module, *heavy in Parallel(2)(delayed(loaded)(compute_cell) for _ in range(2)):
    assert module == 'sparse_probing.sweeps'
    print(*heavy)
"""


@pytest.mark.parametrize('code', [
    'from sparse_probing import SparseProbe', 'from sparse_probing import KSparseProbe, k_curve',
    'from sparse_probing import sweep', 'import sparse_probing.sweeps',
])
def test_a_probe_loads_no_model_library(code):
    run = python(f'{code}\n{LOADED}')
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


def test_a_worker_of_a_sweep_loads_no_model_library():
    run = python(WORKER)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []
