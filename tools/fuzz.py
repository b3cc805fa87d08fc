"""Random hard problems for the solver, each result judged: `python -m tools.fuzz 2000`."""
import sys
import warnings
from collections import Counter

import mpmath
import numpy as np
from tqdm import tqdm

from sparse_probing.solver import duality_gap, l1_path

warnings.simplefilter('ignore')


def problem(seed):
    """A random problem: X, y, C and weights, or no weights."""
    rng = np.random.default_rng(seed)
    n, d = int(2 * 250 ** rng.random()), int(2000 ** rng.random())
    X = rng.normal(size=(n, d)) + rng.normal(size=d) * rng.choice([0, 0, 10])
    y = (X @ (rng.normal(size=d) * (rng.random(d) < .1)) + rng.choice([0, .1, 3]) * rng.normal(size=n) > 0).astype(int)
    if rng.random() < .2: y = rng.integers(0, 2, n)
    if rng.random() < .2: y = (np.arange(n) % 100 == 0).astype(int)
    if len(set(y)) < 2: y[0] = 1 - y[0]
    for k in np.flatnonzero(rng.random(5) < .3): # duplicated, constant, zero, collinear, copied with noise
        j, other, third = rng.integers(0, d, 3)
        X[:, j] = (X[:, other], 7., 0., X[:, other] + X[:, third], X[:, other] * (1 + 1e-9 * rng.normal(size=n)))[k]
    if rng.random() < .4: X *= 10. ** rng.uniform(-8, 8, d if rng.random() < .5 else 1)
    weight = rng.integers(0, 4, n) * rng.random() if rng.random() < .3 else None
    if weight is not None: weight[[np.argmax(y), np.argmin(y)]] = 1
    C = 10. ** rng.uniform(-8, 8) if rng.random() < .3 else 10. ** rng.uniform(-1, 3) / abs(X).std().clip(1e-8)
    return X.astype(rng.choice(['f4', 'f8'])), y, C, weight


def objective(X, y, w, b, C, s):
    """The objective in fifty digits."""
    total = sum(abs(mpmath.mpf(float(v)) if not isinstance(v, mpmath.mpf) else v) for v in w)
    for row, side, weight in zip(X, y, s):
        if not weight: continue
        score = sum((mpmath.mpf(float(x)) * v for x, v in zip(row, w)), mpmath.mpf(b))
        total += C * weight * mpmath.log(1 + mpmath.exp(-(2 * int(side) - 1) * score))
    return total


def lowest(X, y, w, b, C, s, steps=30):
    """The smallest objective with these signs, by Newton steps in fifty digits; None where they do not settle."""
    k, w = len(w), mpmath.matrix([mpmath.mpf(float(v)) for v in [*w, b]])
    rows = [mpmath.matrix([mpmath.mpf(float(x)) for x in [*row, 1]]) for row in X]
    signs = [mpmath.sign(w[j]) for j in range(k)] + [0]
    for _ in range(steps):
        g, H = mpmath.matrix(signs), mpmath.zeros(k + 1)
        for row, side, weight in zip(rows, y, s):
            sign = 2 * int(side) - 1
            p = 1 / (1 + mpmath.exp(sign * mpmath.fdot(row, w)))
            g -= row * (C * weight * sign * p)
            H += (row * row.T) * (C * weight * p * (1 - p))
        try: step = mpmath.lu_solve(H, -g)
        except (ZeroDivisionError, TypeError): return None # singular, where mpmath finds no pivot
        w = w + step
        if any(mpmath.sign(w[j]) != signs[j] for j in range(k)): return None
        if mpmath.norm(step) < mpmath.mpf(10) ** -40 * (1 + mpmath.norm(w)): return objective(X, y, [w[j] for j in range(k)], w[k], C, s)
    return None


def judge(seed):
    """What came of a problem; raises AssertionError where a result or its certificate is wrong."""
    X, y, C, weight = problem(seed)
    fit = l1_path(X, y, C, sample_weight=weight)
    coef, b, gap = fit.coef.toarray()[0], fit.intercept[0], fit.gap[0]
    assert np.isfinite(coef).all() and np.isfinite([b, gap, fit.objective[0]]).all(), 'not finite'
    again = duality_gap(X, y, coef, b, C, weight)
    assert gap >= -1e-12, f'gap {gap}'
    # Where rounding is the limit, two orders of a sum give two bounds, both valid, and neither may be called certified.
    assert abs(again - gap) <= fit.tol if gap <= fit.tol else again > fit.tol / 2, f'gap {gap}, judged anew {again}'
    s = np.ones(len(y)) if weight is None else weight
    rng = np.random.default_rng(seed)
    for size in (1e-6, 1e-3, .1): # no neighbour may lie below what the certificate allows
        near = coef * (1 + size * rng.normal(size=coef.size))
        value = abs(near).sum() + C * s @ np.logaddexp(0, -(2 * y - 1) * (X.astype(float) @ near + b))
        assert value >= fit.objective[0] * (1 - gap - 1e-12), f'a neighbour lies {1 - value / fit.objective[0]:.1e} lower'
    on = np.flatnonzero(coef)
    exact = ''
    if len(on) <= 4 and len(y) <= 60:
        with mpmath.workdps(50):
            value = objective(X[:, on], y, coef[on], b, C, s)
            assert abs(value / fit.objective[0] - 1) <= max(1e-9, min(gap, 1e-6)), 'the objective is wrong'
            least = lowest(X[:, on], y, coef[on], b, C, s)
            if least is not None:
                exact = ', checked in fifty digits'
                assert value - least <= (gap + 1e-12) * value, f'true gap at least {float((value - least) / value):.1e}, certificate {gap:.1e}'
    return ('certified' if gap <= fit.tol else 'says that it is not') + exact


if __name__ == '__main__':
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    found, wrong = Counter(), []
    for seed in tqdm(range(count), unit=' problems'):
        try: found[judge(seed)] += 1
        except AssertionError as e: wrong.append(f'seed {seed}: {e}')
    print(*(f'{number:6} {what}' for what, number in found.most_common()), f'{len(wrong):6} wrong', *wrong, sep='\n')
    sys.exit(bool(wrong))
