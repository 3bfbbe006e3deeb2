"""How well the latents of a VAE keep the known factors of its data apart: five scores in [0, 1].

Three of them compare codes with factors: `mig`, `dci` and `sap`. Two hold one factor fixed and look
for the latent that notices: `factor_vae_score` and `beta_vae_score`. All follow the definitions and
settings of Locatello et al. 2019; `disentanglement` measures all of them for a VAE.

References:
    Locatello et al. 2019, "Challenging Common Assumptions in the Unsupervised Learning of
    Disentangled Representations", the appendix on metrics; the authors' code,
    `disentanglement_lib`.
"""

import logging
from collections.abc import Callable, Sequence

import numpy as np

from keras_vae import metrics
from keras_vae.extras import require

_log = logging.getLogger(__name__)

_BATCH_SIZE = 500
_NUM_FOR_VARIANCES = 10_000
_VOTES_PER_CALL = 32


def mig(codes: np.ndarray, factors: np.ndarray, *, num_bins: int = 20) -> float:
    """Returns the mutual information gap: by how much one latent knows each factor best.

        MIG = mean over k of (I(c_a; v_k) - I(c_b; v_k)) / H(v_k)

    where v_k is a factor, c_j a code, cut into bins of equal width from its smallest to its largest
    value, a the code of most mutual information with v_k and b the second. I and H are those of the
    empirical distribution, in which two independent variables of m and n values share not 0 but
    about (m - 1) (n - 1) / (2 num_examples) nats: take 10,000 examples for factors of many values.

    A factor of more values than bins cannot reach 1: with 20 bins, the best is 0.81 for 40 values
    and 0.85 for 32. A code that is constant knows nothing.

    Args:
        codes: One code for each example, such as the means of the posterior. Shape
            (num_examples, latent_dim), at least two latents.
        factors: Integers. Shape (num_examples, num_factors), at least two factors.
        num_bins: How many bins a code is cut into.

    Returns:
        From 0 to 1, which is best.

    Raises:
        ValueError: If an argument is not as described, or a factor has a single value.

    Example:

    >>> factors = np.indices((2, 4)).reshape(2, -1).T
    >>> round(mig(codes=factors, factors=factors), 6)
    1.0

    References:
        Chen et al. 2018, "Isolating Sources of Disentanglement in Variational Autoencoders",
        There, I integrates over q(z given x); binned codes are Locatello et al.'s.
    """
    codes, factors = _checked(codes, factors)
    if num_bins < 2:
        raise ValueError(f"num_bins should be at least 2. Received: num_bins={num_bins}.")
    binned = [
        np.digitize(code, np.linspace(code.min(), code.max(), num_bins + 1)[:-1])
        for code in codes.T
    ]
    information = np.array([[_mutual_information(b, v) for v in factors.T] for b in binned])
    entropies = np.array([_entropy(factor) for factor in factors.T])
    return float(np.mean(_gaps(information) / entropies))


def dci(codes: np.ndarray, factors: np.ndarray, *, seed: int = 0) -> dict[str, float]:
    """Returns disentanglement, completeness and informativeness, by gradient boosted trees.

    One classifier (scikit-learn's defaults: 100 rounds of trees of depth 3) learns to tell each
    factor from all codes. R_jk is the importance of code j in the classifier of factor k:

        disentanglement = sum over j of w_j (1 - H(R_j. / sum of R_j.) / log(num_factors))
        completeness    = sum over k of w_k (1 - H(R_.k / sum of R_.k) / log(latent_dim))
        informativeness = mean over k of the accuracy on examples held out

    where the weights w are the shares of the row and of the column in the sum of R. A random two
    thirds of the examples are for training, the others are held out: Locatello et al.'s 10,000 and
    5,000 are 15,000 examples.

    A tree for every value of a factor, every round: time grows with the number of values. For 2,000
    training examples, 10 latents and a factor of 40 values, it is 20 seconds of CPU.

    Args:
        codes: One code for each example. Shape (num_examples, latent_dim), at least two latents.
        factors: Integers. Shape (num_examples, num_factors), at least two factors.
        seed: Decides the split and the trees. From 0 to 2**32 - 1.

    Returns:
        `disentanglement`, `completeness` and `informativeness`, each from 0 to 1, which is best.

    Raises:
        ImportError: If the `data` extra is not installed.
        ValueError: If an argument is not as described, or a factor has a single value.

    Example:

    >>> factors = np.random.RandomState(0).randint(2, size=(150, 2))
    >>> {name: round(score, 3) for name, score in dci(codes=factors, factors=factors).items()}
    {'disentanglement': 1.0, 'completeness': 1.0, 'informativeness': 1.0}

    References:
        Eastwood & Williams 2018, "A Framework for the Quantitative Evaluation of Disentangled
        Representations". Accuracy in place of error is Locatello et al.'s.
    """
    codes, factors = _checked(codes, factors)
    ensemble = require("sklearn.ensemble", "data", "This score needs")
    train, test = _split(factors, seed)
    importance, accuracy = [], []
    for factor in factors.T:
        trees = ensemble.GradientBoostingClassifier(random_state=seed)
        trees.fit(codes[train], factor[train])
        importance.append(trees.feature_importances_)
        accuracy.append(trees.score(codes[test], factor[test]))
    importance = np.array(importance).T  # shape: (latent_dim, num_factors)
    return {
        "disentanglement": _concentration(importance),
        "completeness": _concentration(importance.T),
        "informativeness": float(np.mean(accuracy)),
    }


def sap(codes: np.ndarray, factors: np.ndarray, *, seed: int = 0) -> float:
    """Returns the separated attribute predictability: by how much one latent predicts each factor.

        SAP = mean over k of (S_ak - S_bk)

    where S_jk is the accuracy, on the third of the examples that is held out, of a linear support
    vector machine (C = 0.01, one class against the others, classes balanced) that tells factor k
    from code j alone, a the best code for it and b the second.

    Even codes that are the factors themselves do not score 1. For a factor of n equally frequent
    values the second code is right once in n, which leaves 1 - 1 / n. That is reached for up to 4
    values and a few thousand examples. Of more values, straight lines over one dimension find only
    some: right are 2/3 of the predictions for 6 values and less than 1/8 for 32. As the machines
    are regularized, the score depends a little on the scale of the codes.

    Args:
        codes: One code for each example. Shape (num_examples, latent_dim), at least two latents.
        factors: Integers. Shape (num_examples, num_factors), at least two factors.
        seed: Decides which examples are held out. From 0 to 2**32 - 1.

    Returns:
        From 0 to 1.

    Raises:
        ImportError: If the `data` extra is not installed.
        ValueError: If an argument is not as described, or a factor has a single value.

    Example:

    >>> factors = np.indices((2, 2, 100)).reshape(3, -1).T[:, :2]
    >>> 0.4 < sap(codes=factors, factors=factors) < 0.6
    True

    References:
        Kumar et al. 2018, "Variational Inference of Disentangled Latent Concepts from Unlabeled
        Observations". All factors are classes here, as in Locatello et al.
    """
    codes, factors = _checked(codes, factors)
    svm = require("sklearn.svm", "data", "This score needs")
    train, test = _split(factors, seed)

    def accuracy(code, factor):
        # The primal has the solution of the authors' dual, and finds it without random numbers.
        classifier = svm.LinearSVC(C=0.01, class_weight="balanced", dual=False)
        classifier.fit(code[train, np.newaxis], factor[train])
        return classifier.score(code[test, np.newaxis], factor[test])

    scores = np.array([[accuracy(code, factor) for factor in factors.T] for code in codes.T])
    return float(np.mean(_gaps(scores)))


def factor_vae_score(
    represent: Callable[[np.ndarray], np.ndarray],
    factor_sizes: Sequence[int],
    *,
    seed: int = 0,
    num_train: int = 1000,
    num_eval: int = 500,
    batch_size: int = 64,
    threshold: float = 0.05,
) -> float:
    """Returns how often the latent that varies least names the factor that is held fixed.

    One vote: choose a factor k, draw `batch_size` examples that share one value of it, and note

        d = argmin over active j of Var(c_j in the batch) / Var(c_j)

    The classifier predicts, for each d, the factor k that was fixed most often among `num_train`
    votes; the score is its accuracy on `num_eval` other votes. Latents whose codes have a standard
    deviation below `threshold` are pruned; where none is left, the score is 0. Var(c_j) is taken
    over 10,000 examples.

    Locatello et al. take 10,000 and 5,000 votes, ten times what is the default here. Their paper
    states the threshold for the variance, their code compares the standard deviation, as this does.

    Args:
        represent: From factors, (num, num_factors), to codes, (num, latent_dim).
        factor_sizes: How many values each factor has, at least two factors of at least two values.
        seed: Decides all draws. From 0 to 2**32 - 1.
        num_train: Votes that the classifier is made of.
        num_eval: Votes that it is measured on.
        batch_size: Examples in a vote, at least 2.
        threshold: Standard deviation below which a latent is pruned.

    Returns:
        From 0 to 1, which is best. Codes that know nothing score about 1 / num_factors.

    Raises:
        ValueError: If an argument is not as described.

    Example:

    >>> factor_vae_score(lambda factors: 2.0 * factors, (3, 6), num_train=20, num_eval=10)
    1.0

    References:
        Kim & Mnih 2018, "Disentangling by Factorising".
    """
    _check_votes(factor_sizes, num_train, num_eval, batch_size)
    random_state = np.random.RandomState(seed)
    factors = random_state.randint(0, factor_sizes, (_NUM_FOR_VARIANCES, len(factor_sizes)))
    batches = np.array_split(factors, -(-len(factors) // (_VOTES_PER_CALL * batch_size)))
    codes = np.concatenate([_codes(represent, batch) for batch in batches])
    variances = codes.var(axis=0, ddof=1)
    active = np.flatnonzero((np.sqrt(variances) >= threshold) & (np.ptp(codes, axis=0) > 0))
    if not len(active):
        return 0.0

    def collect(num_votes):
        fixed = random_state.randint(len(factor_sizes), size=num_votes)
        least = []
        for factors in _draws(random_state, fixed, factor_sizes, batch_size):
            chosen = fixed[len(least) : len(least) + len(factors)]
            votes = np.arange(len(factors))
            factors[votes, :, chosen] = factors[votes, :1, chosen]
            varying = _codes(represent, factors)[..., active].var(axis=1, ddof=1)
            least.extend(np.argmin(varying / variances[active], axis=1))
        return fixed, np.array(least)

    votes = np.zeros((len(factor_sizes), len(active)), np.int64)
    np.add.at(votes, collect(num_train), 1)
    fixed, least = collect(num_eval)
    return float(np.mean(votes.argmax(axis=0)[least] == fixed))


def beta_vae_score(
    represent: Callable[[np.ndarray], np.ndarray],
    factor_sizes: Sequence[int],
    *,
    seed: int = 0,
    num_train: int = 1000,
    num_eval: int = 500,
    batch_size: int = 64,
) -> float:
    """Returns how well the differences of codes tell which factor two examples share.

    One point: choose a factor k, draw `batch_size` pairs of examples that agree in it, and take

        d_j = mean over pairs of abs(c_j of the first - c_j of the second)

    A logistic regression learns k from the d of `num_train` points; the score is its accuracy on
    `num_eval` others. Locatello et al. take 10,000 and 5,000 points, ten times what is the default
    here. A rotation of the factors scores nearly as high as they do, since the classifier may
    combine several latents to tell one factor.

    Args:
        represent: From factors, (num, num_factors), to codes, (num, latent_dim).
        factor_sizes: How many values each factor has, at least two factors of at least two values.
        seed: Decides all draws. From 0 to 2**32 - 1.
        num_train: Points that the classifier learns from.
        num_eval: Points that it is measured on.
        batch_size: Pairs in a point, at least 2.

    Returns:
        From 0 to 1, which is best. Codes that know nothing score about 1 / num_factors.

    Raises:
        ImportError: If the `data` extra is not installed.
        ValueError: If an argument is not as described, or all `num_train` points fixed one factor.

    Example:

    >>> beta_vae_score(lambda factors: 2.0 * factors, (3, 6), num_train=50, num_eval=10)
    1.0

    References:
        Higgins et al. 2017, "beta-VAE: Learning Basic Visual Concepts with a Constrained
        Variational Framework". Logistic regression is Locatello et al.'s.
        Kim & Mnih 2018, "Disentangling by Factorising", on its weaknesses.
    """
    _check_votes(factor_sizes, num_train, num_eval, batch_size)
    linear_model = require("sklearn.linear_model", "data", "This score needs")
    random_state = np.random.RandomState(seed)

    def collect(num_points):
        fixed = random_state.randint(len(factor_sizes), size=num_points)
        differences = []
        for factors in _draws(random_state, fixed, factor_sizes, 2 * batch_size):
            first, second = factors[:, :batch_size], factors[:, batch_size:]
            chosen = fixed[len(differences) : len(differences) + len(factors)]
            points = np.arange(len(factors))
            second[points, :, chosen] = first[points, :, chosen]
            codes = _codes(represent, factors)
            difference = np.abs(codes[:, :batch_size] - codes[:, batch_size:])
            differences.extend(difference.mean(axis=1))
        return np.array(differences), fixed

    differences, fixed = collect(num_train)
    if len(np.unique(fixed)) < 2:
        raise ValueError(
            "num_train should be large enough for two factors to be drawn. "
            f"Received: num_train={num_train}."
        )
    classifier = linear_model.LogisticRegression(max_iter=10_000).fit(differences, fixed)
    return float(classifier.score(*collect(num_eval)))


def mean_representation(
    model, render: Callable[[np.ndarray], np.ndarray]
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function from factors to the means of the posterior of their images.

    Args:
        model: A VAE.
        render: From factors, (num, num_factors), to images, (num, *event_shape), such as
            `keras_vae.sprites.render`.

    Returns:
        A function from factors, (num, num_factors), to codes, (num, latent_dim). It renders and
        encodes 500 examples at a time.
    """

    def represent(factors):
        starts = range(0, len(factors), _BATCH_SIZE)
        batches = [render(factors[start : start + _BATCH_SIZE]) for start in starts]
        return np.concatenate([metrics.posterior_means(model, batch) for batch in batches])

    return represent


def disentanglement(
    model,
    render: Callable[[np.ndarray], np.ndarray],
    factor_sizes: Sequence[int],
    *,
    num_examples: int = 3000,
    num_votes: int = 1500,
    seed: int = 0,
) -> dict[str, float]:
    """Measures all five scores of a VAE, whose codes are the means of its posterior.

    Locatello et al.'s protocol is 15,000 examples (10,000 for `mig`) and 15,000 votes. The defaults
    are a fifth and a tenth of that: with 5 factors as in `keras_vae.sprites` and 10 latents, `dci`
    takes about a minute of CPU, and 0.3 million images are encoded.

    Args:
        model: A VAE.
        render: From factors, (num, num_factors), to images, (num, *event_shape), such as
            `keras_vae.sprites.render`.
        factor_sizes: How many values each factor has, such as `keras_vae.sprites.FACTOR_SIZES`.
        num_examples: Examples for `mig`, `dci` and `sap`; the last two train on two thirds.
        num_votes: Votes for `factor_vae` and points for `beta_vae`; two thirds are for training.
        seed: Decides all draws. From 0 to 2**32 - 1.

    Returns:
        `mig`, `sap`, `dci_disentanglement`, `dci_completeness`, `dci_informativeness`,
        `factor_vae` and `beta_vae`.

    Raises:
        ImportError: If the `data` extra is not installed.
        ValueError: If an argument is not as described.
    """
    if min(num_examples, num_votes) < 3:
        raise ValueError(
            "num_examples and num_votes should be at least 3. "
            f"Received: num_examples={num_examples}, num_votes={num_votes}."
        )
    num_eval = num_votes // 3
    num_train = num_votes - num_eval
    _check_votes(factor_sizes, num_train, num_eval, batch_size=64)
    represent = mean_representation(model, render)
    factors = np.random.RandomState(seed).randint(
        0, factor_sizes, (num_examples, len(factor_sizes))
    )
    codes = represent(factors)
    scores = {"mig": mig(codes, factors), "sap": sap(codes, factors, seed=seed)}
    _log.info("Measured %s; next is DCI, of %d examples.", scores, num_examples)
    scores |= {f"dci_{name}": score for name, score in dci(codes, factors, seed=seed).items()}
    _log.info("Measured %s; next are %d votes.", scores, num_votes)
    votes = {"seed": seed, "num_train": num_train, "num_eval": num_eval}
    scores["factor_vae"] = factor_vae_score(represent, factor_sizes, **votes)
    scores["beta_vae"] = beta_vae_score(represent, factor_sizes, **votes)
    return scores


def _entropy(*labels):
    counts = np.unique(np.stack(labels), axis=1, return_counts=True)[1]
    return -np.sum(counts / counts.sum() * np.log(counts / counts.sum()))


def _mutual_information(first, second):
    return _entropy(first) + _entropy(second) - _entropy(first, second)


def _gaps(scores):
    """Returns best minus second best of each column."""
    best = np.sort(scores, axis=0)
    return best[-1] - best[-2]


def _concentration(importance):
    """Returns the mean of 1 - normalized entropy of the rows, weighted by their sums."""
    sums = importance.sum(axis=1, keepdims=True)
    if sums.sum() == 0:
        return 0.0
    shares = np.divide(importance, sums, out=np.zeros_like(importance), where=sums > 0)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    per_row = 1 + (shares * logs).sum(axis=1) / np.log(importance.shape[1])
    return float(np.average(per_row, weights=sums[:, 0]))


def _draws(random_state, fixed, factor_sizes, batch_size):
    """Yields factors of a few votes at a time, (votes, batch_size, num_factors)."""
    for start in range(0, len(fixed), _VOTES_PER_CALL):
        num_votes = len(fixed[start : start + _VOTES_PER_CALL])
        yield random_state.randint(0, factor_sizes, (num_votes, batch_size, len(factor_sizes)))


def _codes(represent, factors):
    """Returns the codes of factors of shape (..., num_factors), (..., latent_dim)."""
    flat = factors.reshape(-1, factors.shape[-1])
    codes = np.asarray(represent(flat), np.float64)
    if codes.ndim != 2 or len(codes) != len(flat) or not np.isfinite(codes).all():
        raise ValueError(
            "represent should return finite codes of shape (num, latent_dim) for factors of shape "
            f"{flat.shape}. Received: codes of shape {codes.shape}, of which "
            f"{np.isfinite(codes).sum()} are finite."
        )
    return codes.reshape(*factors.shape[:-1], -1)


def _split(factors, seed):
    order = np.random.RandomState(seed).permutation(len(factors))
    num_test = len(factors) // 3
    train, test = order[num_test:], order[:num_test]
    if not num_test or (factors[train] == factors[train[0]]).all(axis=0).any():
        raise ValueError(
            "Two thirds of the examples should hold at least two values of each factor. "
            f"Received: {len(factors)} examples."
        )
    return train, test


def _checked(codes, factors):
    codes, factors = np.asarray(codes), np.asarray(factors)
    if codes.ndim != 2 or codes.shape[1] < 2 or codes.dtype.kind not in "fiu":
        raise ValueError(
            "codes should be numbers of shape (num_examples, latent_dim), with at least two "
            f"latents. Received: {codes.dtype} of shape {codes.shape}."
        )
    if factors.ndim != 2 or factors.shape[1] < 2 or factors.dtype.kind not in "iu":
        raise ValueError(
            "factors should be integers of shape (num_examples, num_factors), with at least two "
            f"factors. Received: {factors.dtype} of shape {factors.shape}."
        )
    if len(codes) != len(factors) or not len(codes):
        raise ValueError(
            "codes and factors should hold one row for each example. "
            f"Received: {len(codes)} codes and {len(factors)} rows of factors."
        )
    if not np.isfinite(codes).all():
        raise ValueError(
            "codes should be finite. "
            f"Received: {codes.size - np.isfinite(codes).sum()} values that are NaN or infinite."
        )
    constant = np.flatnonzero((factors == factors[0]).all(axis=0))
    if len(constant):
        raise ValueError(
            "Each factor should take at least two values in the examples. "
            f"Received: factor {constant[0]} is always {factors[0, constant[0]]}."
        )
    return codes.astype(np.float64), factors


def _check_votes(factor_sizes, num_train, num_eval, batch_size):
    sizes = np.asarray(factor_sizes)
    if sizes.ndim != 1 or len(sizes) < 2 or sizes.dtype.kind not in "iu" or sizes.min() < 2:
        raise ValueError(
            "factor_sizes should be at least two integers, each at least 2. "
            f"Received: factor_sizes={factor_sizes}."
        )
    if min(num_train, num_eval) < 1 or batch_size < 2:
        raise ValueError(
            "num_train and num_eval should be at least 1 and batch_size at least 2. Received: "
            f"num_train={num_train}, num_eval={num_eval}, batch_size={batch_size}."
        )
