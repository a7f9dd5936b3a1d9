"""The rules once more, as plain loops in float64 written from the equations; slow on purpose.

A network here is a list of layers (W, b, R), tanh between them; noise is a list with one vector
per layer. Nothing is shared with the library.
"""

from math import tanh

import numpy as np


def forward(layers, x, noise):
    """One sample through the network: inputs, activities, and the output."""
    inputs, activities = [], []
    for l, (W, b, R) in enumerate(layers):
        x = [sum(R[i][j] * x[j] for j in range(len(x))) for i in range(len(x))]
        a = [sum(W[i][j] * x[j] for j in range(len(x))) + b[i] + noise[l][i] for i in range(len(b))]
        inputs.append(x)
        activities.append(a)
        x = [tanh(v) for v in a]
    return inputs, activities, activities[-1]


def loss(output, target):
    return sum((o - t) ** 2 for o, t in zip(output, target, strict=True)) / 2


def silence(layers):
    return [[0.0] * len(b) for _, b, _ in layers]


def zeros(layers):
    return [(np.zeros_like(np.array(W)), np.zeros(len(b))) for W, b, _ in layers]


def add(total, l, credit, x):
    """credit ⊗ x into layer l's gradient."""
    W, b = total[l]
    for i in range(len(credit)):
        b[i] += credit[i]
        for j in range(len(x)):
            W[i][j] += credit[i] * x[j]


def np_rule(layers, xs, ts, xi, sigma):
    """xi[l][k][b]: noise of layer l in pass k for sample b."""
    total, K, B = zeros(layers), len(xi[0]), len(xs)
    for s in range(B):
        x, _, out = forward(layers, xs[s], silence(layers))
        L0 = loss(out, ts[s])
        for k in range(K):
            noise = [xi[l][k][s] for l in range(len(layers))]
            dL = loss(forward(layers, xs[s], noise)[2], ts[s]) - L0
            for l in range(len(layers)):
                add(total, l, [dL * v / sigma**2 / K / B for v in noise[l]], x[l])
    return total


def inp_rule(layers, xs, ts, xi, sigma):
    total, K, B = zeros(layers), len(xi[0]), len(xs)
    for s in range(B):
        x, a, out = forward(layers, xs[s], silence(layers))
        L0 = loss(out, ts[s])
        for l in range(len(layers)):
            for k in range(K):
                noise = silence(layers)
                noise[l] = xi[l][k][s]
                _, noisy, out = forward(layers, xs[s], noise)
                dL = loss(out, ts[s]) - L0
                da = [v - w for v, w in zip(noisy[l], a[l], strict=True)]
                norm = sum(v * v for v in da)
                add(total, l, [dL * v * len(da) / norm / K / B for v in da], x[l])
    return total


def anp_rule(layers, xs, ts, xi, sigma, scaling="count", reference=None):
    """`reference[l][b]`: noise of the reference pass, where the system is noisy by itself."""
    total, K, B = zeros(layers), len(xi[0]), len(xs)
    for s in range(B):
        own = silence(layers) if reference is None else [r[s] for r in reference]
        x, a, out = forward(layers, xs[s], own)
        L0 = loss(out, ts[s])
        for k in range(K):
            noise = [xi[l][k][s] for l in range(len(layers))]
            _, noisy, out = forward(layers, xs[s], noise)
            dL = loss(out, ts[s]) - L0
            da = [[v - w for v, w in zip(noisy[l], a[l], strict=True)] for l in range(len(layers))]
            N = sum(len(d) for d in da)
            norm = sum(v * v for d in da for v in d)
            numerator = {"count": N, "root": N**0.5, "variance": norm / (sigma or 1) ** 2}[scaling]
            factor = numerator / norm
            for l in range(len(layers)):
                add(total, l, [dL * v * factor / K / B for v in da[l]], x[l])
    return total


def innovation_rule(layers, xs, ts, xi, sigma, exact=False):
    """`exact`: the output's credit is its error, whose share is taken out of δL."""
    total, K, B = zeros(layers), len(xi[0]), len(xs)
    for s in range(B):
        x, _, out = forward(layers, xs[s], silence(layers))
        L0, error = loss(out, ts[s]), [o - t for o, t in zip(out, ts[s], strict=True)]
        for k in range(K):
            noise = [xi[l][k][s] for l in range(len(layers))]
            dL = loss(forward(layers, xs[s], noise)[2], ts[s]) - L0
            if exact:
                dL -= sum(v * e for v, e in zip(noise[-1], error, strict=True))
            N, norm = sum(len(v) for v in noise), sum(v * v for vs in noise for v in vs)
            credits = [[dL * v * N / norm for v in noise[l]] for l in range(len(layers))]
            if exact:
                credits[-1] = error
            for l in range(len(layers)):
                add(total, l, [c / K / B for c in credits[l]], x[l])
    return total


def share_rule(layers, xs, ts, xi, sigma):
    return innovation_rule(layers, xs, ts, xi, sigma, exact=True)


def conv2d(x, W, b, stride, padding):
    """(C, H, W) → (C', H', W'), zero padding."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    n, _, kh, kw = W.shape
    out = np.zeros((n, (x.shape[1] - kh) // stride + 1, (x.shape[2] - kw) // stride + 1))
    for o, i, j in np.ndindex(*out.shape):
        patch = x[:, i * stride : i * stride + kh, j * stride : j * stride + kw]
        out[o, i, j] = (patch * W[o]).sum() + b[o]
    return out
