"""Random hard problems for the solver, each result judged: `python -m tools.fuzz 2000`."""
import sys
import warnings
from collections import Counter

import mpmath
import numpy as np
from tqdm import tqdm

from sparse_probing.matrix import Columns
from sparse_probing.solver import duality_gap, l1_path

warnings.simplefilter('ignore')

DIGITS = 50
SETTLED = mpmath.mpf(10) ** -40 # relative size of a Newton step after which it stops
SMALL = 4, 60 # neurons and rows up to which a problem is solved in fifty digits
SLACK = 1e-12 # share of an objective that rounding may take


def problem(seed):
    """A random problem: X, y, C and weights, or no weights."""
    rng = np.random.default_rng(seed)
    n, d = int(2 * 600 ** rng.random()), int(2000 ** rng.random())
    X = rng.normal(size=(n, d)) + rng.normal(size=d) * rng.choice([0, 0, 10])
    y = labels(rng, X)
    plant(rng, X)
    attack(rng, X)
    if rng.random() < .4: X *= 10. ** rng.uniform(-8, 8, d if rng.random() < .5 else 1)
    weight = rng.integers(0, 4, n) * rng.random() if rng.random() < .3 else None
    if weight is not None: weight[[np.argmax(y), np.argmin(y)]] = 1 # neither class may be left out
    if rng.random() < .3: C = 10. ** rng.uniform(-8, 8)
    else: C = 10. ** rng.uniform(-1, 3) / abs(X).std().clip(1e-8)
    return in_precision(rng, X), y, C, weight


def labels(rng, X):
    """Labels that a few columns decide, with noise, or none do, or one in a hundred."""
    n, d = X.shape
    true_coef = rng.normal(size=d) * (rng.random(d) < .1)
    y = (X @ true_coef + rng.choice([0, .1, 3]) * rng.normal(size=n) > 0).astype(int)
    if rng.random() < .2: y = rng.integers(0, 2, n)
    if rng.random() < .2: y = (np.arange(n) % 100 == 0).astype(int)
    if len(set(y)) < 2: y[0] = 1 - y[0]
    return y


def plant(rng, X):
    """Replace columns by what makes a solver's life hard."""
    n, d = X.shape
    for k in np.flatnonzero(rng.random(5) < .3):
        j, other, third = rng.integers(0, d, 3)
        hard = {'duplicated': X[:, other],
                'constant': 7.,
                'zero': 0.,
                'collinear': X[:, other] + X[:, third],
                'copied with noise': X[:, other] * (1 + 1e-9 * rng.normal(size=n))}
        X[:, j] = [*hard.values()][k]


def attack(rng, X):
    """Replace columns by what makes a sum in single precision wrong."""
    n, d = X.shape
    for k in np.flatnonzero(rng.random(5) < .1):
        some = rng.random(d) < rng.choice([.01, .5])
        shape = n, some.sum()
        wrong = [lambda: 10. ** rng.uniform(3, 30) * (1 + 1e-6 * rng.normal(size=shape)), # far off
                 lambda: 1e6 * (-1.) ** np.arange(n)[:, None] + rng.normal(size=shape), # cancels
                 lambda: 1e-40 * rng.normal(size=shape), # below the smallest normal number
                 lambda: 10. ** rng.uniform(10, 37) * rng.normal(size=shape), # among the small
                 lambda: X[:, some] * 10. ** rng.uniform(-30, 0, n)[:, None]] # rows of all sizes
        X[:, some] = wrong[k]()


def in_precision(rng, X):
    """The same in half, single or double precision, in rows or in columns."""
    if rng.random() < .2: # as large as half precision holds
        return (X / abs(X).max().clip(1e-300) * np.finfo('f2').max).astype('f2')
    precision = rng.choice(['f4', 'f8'])
    largest = np.finfo(precision).max / 8 # so that the distance of two numbers is one too
    return X.clip(-largest, largest).astype(precision, order=rng.choice(['C', 'F']))


def objective(X, y, w, b, C, s):
    """The objective in fifty digits."""
    w = [mpmath.mpf(v) for v in w]
    total = sum(abs(v) for v in w)
    for row, side, weight in zip(X, y, s):
        if not weight: continue
        score = sum((mpmath.mpf(float(x)) * v for x, v in zip(row, w)), mpmath.mpf(b))
        total += C * weight * mpmath.log1p(mpmath.exp(-(2 * int(side) - 1) * score))
    return total


def derivatives(rows, y, w, C, s, signs):
    """The slope downhill and the curvature of the objective, signs held, in fifty digits."""
    g, H = mpmath.matrix(signs), mpmath.zeros(len(w))
    for row, side, weight in zip(rows, y, s):
        sign = 2 * int(side) - 1
        p = 1 / (1 + mpmath.exp(sign * mpmath.fdot(row, w)))
        g -= row * (C * weight * sign * p)
        H += (row * row.T) * (C * weight * p * (1 - p))
    return -g, H


def lowest(X, y, w, b, C, s, steps=30):
    """The smallest objective with these signs, by Newton steps; None where they do not settle."""
    k, w = len(w), mpmath.matrix([mpmath.mpf(float(v)) for v in [*w, b]])
    rows = [mpmath.matrix([mpmath.mpf(float(x)) for x in [*row, 1]]) for row in X]
    signs = [mpmath.sign(w[j]) for j in range(k)] + [0]
    for _ in range(steps):
        downhill, H = derivatives(rows, y, w, C, s, signs)
        try: step = mpmath.lu_solve(H, downhill)
        except (ZeroDivisionError, TypeError): return None # singular, where mpmath finds no pivot
        w = w + step
        if any(mpmath.sign(w[j]) != signs[j] for j in range(k)): return None
        if mpmath.norm(step) < SETTLED * (1 + mpmath.norm(w)):
            return objective(X, y, [w[j] for j in range(k)], w[k], C, s)
    return None


def wobble(X, coef, b, C, s):
    """How far the rounding of the scores can move a sum, as a share of what it may be at most."""
    X, roundings = X.astype(float), np.count_nonzero(coef) + 2
    error = roundings * np.finfo(float).eps * (abs(X) @ abs(coef) + abs(b))
    return C * ((s / 4 * error) @ abs(X - X.mean(0))).max()


def validate_gap(gap, again, tol, wobble):
    """No gap is negative, and a certified solution stays so when it is judged anew.

    Where rounding is the limit, two orders of a sum give two bounds, both valid.
    """
    assert min(gap, again) >= -SLACK, f'gaps {gap} and {again}'
    if gap > tol: return
    assert abs(again - gap) <= tol + wobble, f'gap {gap}, judged anew {again}, wobble {wobble}'


def draw_residuals(rng, n):
    """Residuals of many sizes, in balance."""
    r = rng.normal(size=n) * 10. ** (rng.uniform(-rng.choice([0, 30]), 0, n) - rng.choice([0, 170]))
    return r - r.mean()


def validate_bound(X, rng):
    """No sum over the rows is further from the truth than its bound, nor a norm too small."""
    wide, columns = X.astype(np.longdouble), Columns(X)
    def truth(r): return r.astype(np.longdouble) @ (wide - columns.mean)
    r = draw_residuals(rng, len(X))
    sums, doubt = columns.products(r[None])[0], columns.doubt(r)
    wrong = (abs(sums - truth(r)) > doubt) & np.isfinite(sums)
    assert not wrong.any(), f'{wrong.sum()} of {len(sums)} sums are further off than they may be'
    change = 10. ** rng.uniform(-12, 0) * draw_residuals(rng, len(X))
    wrong = abs(truth(r + change) - truth(r)) > columns.drift((r + change) - r)
    assert not wrong.any(), f'{wrong.sum()} of {len(sums)} sums drift further than they may'
    assert (columns.norm >= np.sqrt((wide ** 2).sum(0))).all(), 'a norm is too small'


def validate_neighbours(X, y, coef, b, C, s, least, rng):
    """No neighbour lies below what the certificate allows."""
    for size in (1e-6, 1e-3, .1):
        near = coef * (1 + size * rng.normal(size=coef.size))
        loss = s @ np.logaddexp(0, -(2 * y - 1) * (X.astype(float) @ near + b))
        value = abs(near).sum() + C * loss
        assert value >= least, f'a neighbour lies {1 - value / least:.1e} below the bound'


def validate_exactly(X, y, coef, b, C, s, claimed, gap):
    """Objective and certificate hold in fifty digits; False where those do not settle."""
    with mpmath.workdps(DIGITS):
        value = objective(X, y, coef, b, C, s)
        assert abs(value / claimed - 1) <= max(1e-9, min(gap, 1e-6)), 'the objective is wrong'
        least = lowest(X, y, coef, b, C, s)
        if least is None: return False
        true_gap = f'true gap at least {float((value - least) / value):.1e}'
        assert value - least <= (gap + SLACK) * value, f'{true_gap}, certificate {gap:.1e}'
    return True


def judge(seed):
    """What came of a problem; raises AssertionError where a result or its certificate is wrong."""
    X, y, C, weight = problem(seed)
    fit = l1_path(X, y, C, sample_weight=weight)
    coef, b, gap, value = fit.coef.toarray()[0], fit.intercept[0], fit.gap[0], fit.objective[0]
    assert np.isfinite(coef).all() and np.isfinite([b, gap, value]).all(), 'not finite'
    rng = np.random.default_rng(seed)
    validate_bound(X, rng)
    again = duality_gap(X, y, coef, b, C, weight)
    s, tighter = np.ones(len(y)) if weight is None else weight, min(gap, again)
    validate_gap(gap, again, fit.tol, wobble(X, coef, b, C, s))
    least = value * (1 - tighter - SLACK)
    validate_neighbours(X, y, coef, b, C, s, least, rng)
    verdict, on = 'certified' if gap <= fit.tol else 'says that it is not', np.flatnonzero(coef)
    if again <= fit.tol < gap: verdict += ', but duality_gap certifies it'
    small = len(on) <= SMALL[0] and len(y) <= SMALL[1]
    exact = small and validate_exactly(X[:, on], y, coef[on], b, C, s, value, tighter)
    return verdict + ', checked in fifty digits' * exact


if __name__ == '__main__':
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    verdicts, wrong = Counter(), []
    for seed in tqdm(range(count), unit=' problems'):
        try: verdicts[judge(seed)] += 1
        except AssertionError as e: wrong.append(f'seed {seed}: {e}')
    for verdict, number in verdicts.most_common(): print(f'{number:6} {verdict}')
    print(f'{len(wrong):6} wrong', *wrong, sep='\n')
    sys.exit(bool(wrong))
