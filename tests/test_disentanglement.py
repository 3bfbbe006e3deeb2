"""Scores of disentanglement, against scikit-learn, closed forms and codes of known quality."""

import re
import sys

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from keras_vae import disentanglement
from keras_vae.disentanglement import beta_vae_score, dci, factor_vae_score, mig, sap

SIZES = (2, 3, 4)
VOTES = {"num_train": 300, "num_eval": 300}


def draw(num_examples, seed=0):
    return np.random.RandomState(seed).randint(0, SIZES, (num_examples, len(SIZES)))


def standardize(factors):
    sizes = np.array(SIZES)
    return (factors - (sizes - 1) / 2) / np.sqrt((sizes**2 - 1) / 12)


def identity(factors):
    return 10.0 * standardize(factors)


def permuted(factors):
    """Returns the factors in another order, scale and direction, and a latent that is dead."""
    codes = identity(factors)[:, [2, 0, 1]] * [-0.7, 3.0, 1.0] + [5.0, 0.0, -1.0]
    return np.insert(codes, 1, 0.25, axis=1)


def rotated(factors):
    axis = np.full(3, np.sqrt(1 / 3))
    return identity(factors) @ (np.eye(3) - 2 * np.outer(axis, axis))[:, [1, 2, 0]]


def noise(seed=1):
    random_state = np.random.RandomState(seed)
    return lambda factors: random_state.normal(size=(len(factors), 3))


def dead(factors):
    return np.full((len(factors), 3), 0.1)


perfect = pytest.mark.parametrize("represent", [identity, permuted])
scores_of_arrays = pytest.mark.parametrize("score", [mig, dci, sap])
scores_of_functions = pytest.mark.parametrize("score", [factor_vae_score, beta_vae_score])


# Mutual information gap


@perfect
def test_mig_of_the_factors_themselves_is_one(represent):
    factors = np.indices(SIZES).reshape(3, -1).T  # each combination once: exactly independent
    assert mig(represent(factors), factors) == pytest.approx(1.0)


def test_mig_is_that_of_mutual_information_by_scikit_learn():
    factors = draw(500)
    codes = factors @ np.random.RandomState(1).normal(size=(3, 4))
    codes += 0.3 * np.random.RandomState(2).normal(size=codes.shape)
    gaps = []
    for factor in factors.T:
        information = []
        for code in codes.T:
            edges = np.histogram(code, 20)[1]
            information.append(mutual_info_score(factor, np.digitize(code, edges[:-1])))
        second, first = np.sort(information)[-2:]
        gaps.append((first - second) / mutual_info_score(factor, factor))
    assert mig(codes, factors) == pytest.approx(np.mean(gaps), rel=1e-9)


def test_mig_of_a_code_that_merges_two_values_is_a_closed_form():
    factors = np.indices((4, 2)).reshape(2, -1).T
    codes = np.stack([factors[:, 0] // 2, np.zeros(8)], axis=1)
    # The first factor has log 4 nats, of which the code knows log 2; nobody knows the second.
    assert mig(codes, factors) == pytest.approx((1 / 2 + 0) / 2)


def test_mig_is_zero_when_two_latents_know_the_same():
    factors = draw(200)
    assert mig(np.repeat(factors, 2, axis=1), factors) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("size", "best"), [(40, 0.81), (32, 0.85)])
def test_mig_of_a_factor_of_more_values_than_bins_stays_below_one(size, best):
    factors = np.indices((size, size)).reshape(2, -1).T
    assert mig(factors, factors) == pytest.approx(best, abs=0.005)


def test_mig_of_noise_is_about_zero():
    factors = draw(5000)
    # Each of two mutual informations is off by about 19 * 3 / (2 * 5000) nats.
    assert 0 <= mig(noise()(factors), factors) < 0.01


def test_mig_falls_when_the_codes_are_rotated():
    factors = draw(2000)
    assert mig(rotated(factors), factors) < 0.5 * mig(identity(factors), factors)


# Disentanglement, completeness, informativeness


@perfect
def test_dci_of_the_factors_themselves_is_one(represent):
    factors = draw(300)
    assert dci(represent(factors), factors) == pytest.approx(
        {"disentanglement": 1.0, "completeness": 1.0, "informativeness": 1.0}, abs=1e-6
    )


def test_dci_falls_but_keeps_the_information_when_the_codes_are_rotated():
    factors = draw(600)
    scores = dci(rotated(factors), factors)
    assert scores["disentanglement"] < 0.7
    assert scores["completeness"] < 0.7
    assert scores["informativeness"] > 0.95


def test_two_copies_of_each_factor_are_disentangled_but_not_complete():
    factors = draw(300)
    random_state = np.random.RandomState(1)
    codes = np.repeat(factors, 2, axis=1) + 0.1 * random_state.normal(size=(300, 6))
    scores = dci(codes, factors)
    assert scores["disentanglement"] > 0.98
    # Importance that is spread over two of six codes would leave 1 - log 2 / log 6 = 0.61.
    assert 0.6 < scores["completeness"] < 0.95


def test_one_latent_of_all_factors_is_complete_but_not_disentangled():
    factors = draw(300)
    codes = np.stack([factors @ [12, 4, 1], np.zeros(300)], axis=1)
    scores = dci(codes, factors)
    # The live row is spread evenly over the factors, since the importances of each sum to 1.
    assert scores["disentanglement"] == pytest.approx(0.0, abs=1e-9)
    assert scores["completeness"] == pytest.approx(1.0)
    assert scores["informativeness"] > 0.95


def test_dci_of_noise_is_at_chance_level():
    factors = draw(600)
    scores = dci(noise()(factors), factors)
    assert scores["disentanglement"] < 0.05
    assert scores["completeness"] < 0.05
    assert scores["informativeness"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3, abs=0.06)


# Separated attribute predictability


@perfect
def test_sap_of_the_factors_themselves_is_one_minus_chance(represent):
    factors = draw(3000)
    expected = 1 - (1 / 2 + 1 / 3 + 1 / 4) / 3
    # The second code's accuracy is the largest of a few at chance level, of 1,000 examples each.
    assert expected - 0.04 < sap(represent(factors), factors) < expected + 0.01


def test_sap_of_noise_is_about_zero():
    factors = draw(3000)
    assert 0 <= sap(noise()(factors), factors) < 0.03


def test_sap_is_zero_when_two_latents_know_the_same():
    factors = draw(300)
    assert sap(np.repeat(identity(factors), 2, axis=1), factors) == 0.0


# FactorVAE and beta-VAE scores


@perfect
@scores_of_functions
def test_score_of_the_factors_themselves_is_one(score, represent):
    assert score(represent, SIZES, **VOTES) == 1.0


@scores_of_functions
def test_score_of_noise_is_at_chance_level(score):
    # Five standard errors of an accuracy of 1/3 over 1,000 votes are 0.075.
    measured = score(noise(), SIZES, num_train=300, num_eval=1000)
    assert measured == pytest.approx(1 / 3, abs=0.075)


@scores_of_functions
def test_score_of_a_code_of_one_factor_tells_only_that(score):
    # The others are told apart by guessing, which is right half of the time: (1 + 1/2 + 1/2) / 3.
    def represent(factors):
        return np.stack([identity(factors)[:, 2], np.zeros(len(factors))], axis=1)

    measured = score(represent, SIZES, num_train=300, num_eval=1000)
    expected = 2 / 3 if score is beta_vae_score else 1 / 3  # one latent has one vote to give
    assert measured == pytest.approx(expected, abs=0.075)


def test_beta_vae_score_hardly_sees_a_rotation():
    assert beta_vae_score(rotated, SIZES, **VOTES) > 0.85


def test_factor_vae_score_ignores_latents_below_the_threshold():
    # A tiny copy of the first factor would take its votes when anything else is fixed, too.
    def represent(factors):
        mixed = 1e-3 * identity(factors).sum(axis=1, keepdims=True)
        return np.concatenate([identity(factors)[:, :2], mixed], axis=1)

    def shared(factors):
        return represent(factors)[:, :2]

    pruned = factor_vae_score(represent, SIZES, **VOTES)
    assert pruned == factor_vae_score(shared, SIZES, **VOTES)
    assert factor_vae_score(represent, SIZES, threshold=0.0, **VOTES) > pruned + 0.1


def test_factor_vae_score_counts_a_latents_variance_in_units_of_its_own():
    # Of a fixed factor, noise leaves a fifth of the variance, which is more in units of the last
    # latent than all of the first.
    draw_noise = noise()

    def represent(factors):
        return (standardize(factors) + 0.5 * draw_noise(factors)) * [1.0, 10.0, 100.0]

    assert factor_vae_score(represent, SIZES, **VOTES) == 1.0


@scores_of_functions
def test_votes_share_a_value_of_the_fixed_factor_only(score):
    seen = []

    def represent(factors):
        seen.append(factors.copy())
        return identity(factors)

    score(represent, SIZES, num_train=20, num_eval=1, batch_size=50)
    for factors in seen[-2].reshape(20, -1, 3):
        if score is factor_vae_score:
            same = (factors == factors[0]).all(axis=0)
        else:
            same = (factors[:50] == factors[50:]).all(axis=0)
        assert same.sum() == 1


# All of them


@scores_of_arrays
def test_score_of_dead_latents_is_that_of_no_knowledge(score):
    factors = draw(150)
    measured = score(dead(factors), factors)
    if score is dci:
        assert 0.2 < measured.pop("informativeness") < 0.6
        assert measured == {"disentanglement": 0.0, "completeness": 0.0}
    else:
        assert measured == pytest.approx(0.0, abs=1e-12)


def test_interventional_scores_of_dead_latents_are_at_most_chance():
    assert factor_vae_score(dead, SIZES, **VOTES) == 0.0
    assert factor_vae_score(dead, SIZES, threshold=0.0, **VOTES) == 0.0
    assert beta_vae_score(dead, SIZES, **VOTES) == pytest.approx(1 / 3, abs=0.14)


@pytest.mark.parametrize("score", [sap, dci])
def test_same_seed_gives_same_score_of_arrays(score):
    factors = draw(150)
    codes = rotated(factors) + noise()(factors)
    assert score(codes, factors, seed=3) == score(codes, factors, seed=3)
    assert score(codes, factors, seed=3) != score(codes, factors, seed=4)


@scores_of_functions
def test_same_seed_gives_same_score_of_functions(score):
    def represent(factors):
        return rotated(factors) + 30 * np.sin(1e3 * factors)  # between chance and 1

    measured = [score(represent, SIZES, batch_size=4, seed=seed, **VOTES) for seed in (3, 3, 4)]
    assert measured[0] == measured[1] != measured[2]


def test_a_vae_is_scored_by_the_means_of_its_posterior(make_vae):
    sizes = (2, 3)
    pixels = np.random.RandomState(0).uniform(size=(6, 8, 8, 1)).astype(np.float32)

    def render(factors):
        return pixels[factors @ [3, 1]]

    vae = make_vae(hidden_units=(16,))
    means = vae.encode(pixels).mean().numpy()
    scores = disentanglement.disentanglement(
        vae, render, sizes, num_examples=600, num_votes=30, seed=5
    )
    factors = np.random.RandomState(5).randint(0, sizes, (600, 2))
    codes = means[factors @ [3, 1]]
    votes = {"seed": 5, "num_train": 20, "num_eval": 10}

    def represent(factors):
        return means[factors @ [3, 1]]

    expected = {
        "mig": mig(codes, factors),
        "sap": sap(codes, factors, seed=5),
        "factor_vae": factor_vae_score(represent, sizes, **votes),
        "beta_vae": beta_vae_score(represent, sizes, **votes),
    }
    expected |= {f"dci_{name}": value for name, value in dci(codes, factors, seed=5).items()}
    # Batches of another size change the last bits of the means.
    assert scores == pytest.approx(expected, abs=1e-6)


# What is refused


@scores_of_arrays
@pytest.mark.parametrize(
    ("codes", "factors", "message"),
    [
        (np.zeros((6, 1)), draw(6), "at least two latents. Received: float64 of shape (6, 1)."),
        (np.zeros(6), draw(6), "codes should be numbers of shape"),
        (np.zeros((6, 2)), draw(6) / 2, "factors should be integers of shape"),
        (np.zeros((6, 2)), draw(6)[:, :1], "at least two factors. Received: int64 of shape (6, 1)"),
        (np.zeros((6, 2)), draw(5), "Received: 6 codes and 5 rows of factors."),
        (np.zeros((0, 2)), draw(0), "Received: 0 codes and 0 rows of factors."),
        (np.full((6, 2), np.nan), draw(6), "Received: 12 values that are NaN or infinite."),
        (np.zeros((6, 2)), draw(6) * [1, 0, 1], "Received: factor 1 is always 0."),
    ],
)
def test_wrong_arrays_are_refused(score, codes, factors, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        score(codes, factors)


@pytest.mark.parametrize("score", [dci, sap])
def test_too_few_examples_to_hold_some_out_are_refused(score):
    with pytest.raises(ValueError, match="hold at least two values of each factor. Received: 2 ex"):
        score(np.eye(2), np.eye(2, dtype=int))


def test_a_single_bin_is_refused():
    with pytest.raises(ValueError, match="at least 2. Received: num_bins=1."):
        mig(identity(draw(9)), draw(9), num_bins=1)


@scores_of_functions
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factor_sizes": (3,)}, r"factor_sizes=\(3,\)"),
        ({"factor_sizes": (3, 1)}, r"factor_sizes=\(3, 1\)"),
        ({"factor_sizes": (3.0, 2.0)}, r"factor_sizes=\(3.0, 2.0\)"),
        ({"num_train": 0}, "num_train=0"),
        ({"num_eval": 0}, "num_eval=0"),
        ({"batch_size": 1}, "batch_size=1"),
    ],
)
def test_wrong_votes_are_refused(score, changes, message):
    with pytest.raises(ValueError, match=f"Received: .*{message}"):
        score(identity, **({"factor_sizes": SIZES} | changes))


@scores_of_functions
@pytest.mark.parametrize(
    "represent", [lambda factors: factors[0], lambda factors: factors / 0.0, lambda factors: 1.0]
)
@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value):RuntimeWarning")
def test_wrong_codes_of_a_function_are_refused(score, represent):
    with pytest.raises(ValueError, match="represent should return finite codes .* Received: codes"):
        score(represent, SIZES, **VOTES)


def test_points_of_one_factor_only_are_refused():
    with pytest.raises(ValueError, match="two factors to be drawn. Received: num_train=1."):
        beta_vae_score(identity, SIZES, num_train=1)


@pytest.mark.parametrize("changes", [{"num_examples": 2}, {"num_votes": 2}])
def test_too_few_examples_or_votes_of_a_vae_are_refused(make_vae, changes):
    with pytest.raises(ValueError, match="should be at least 3. Received: num_examples="):
        disentanglement.disentanglement(make_vae(), None, SIZES, **changes)


@pytest.mark.parametrize(
    ("module", "measure"),
    [
        ("sklearn.ensemble", lambda: dci(identity(draw(9)), draw(9))),
        ("sklearn.svm", lambda: sap(identity(draw(9)), draw(9))),
        ("sklearn.linear_model", lambda: beta_vae_score(identity, SIZES)),
    ],
)
def test_without_scikit_learn_the_error_names_the_extra(monkeypatch, module, measure):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'scikit-learn: pip install "keras-vae\[data\]"'):
        measure()
