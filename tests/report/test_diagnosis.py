"""What is said of the numbers: each sentence from numbers that call for it."""

import numpy as np
import pytest

from keras_vae import models
from keras_vae.distributions import ContinuousBernoulli
from keras_vae.objectives import ELBO, IWAE
from keras_vae.report.diagnosis import GOOD, NOTE, WARNING, Detection, diagnose
from keras_vae.report.study import Study
from keras_vae.schedules import Constant, Linear
from keras_vae.zoo.recipe import DataRecipe, Recipe

NUMBERS = {
    "elbo": {"mean": -91.0},
    "kl": {"mean": 5.0},
    "log_likelihood": {"mean": -90.0},
    "active_units": 2,
    "mutual_information": 4.0,
    "marginal_kl": 1.0,
    "effective_sample_size": 40.0,
    "smallest_effective_sample_size": 5.0,
}


def study(
    *,
    images=None,
    likelihood=None,
    objective=None,
    is_foreign=False,
    nats=(3.0, 2.0, 0.0),
    **numbers,
):
    images = np.zeros((1000, 4, 4, 1), np.float32) if images is None else images
    return Study(
        models.DenseVAE(
            (4, 4, 1), 3, hidden_units=(4,), likelihood=likelihood, objective=objective
        ),
        Recipe("tiny", {}, data=DataRecipe("mnist")),
        is_foreign,
        images,
        None,
        {"test": NUMBERS | numbers, "protocol": {"importance_samples": 500}},
        np.tile(nats, (len(images), 1)),
        np.array(nats) > 0,
        np.zeros(len(images)),
        None,
        {},
    )


def find(findings, word):
    (finding,) = [finding for finding in findings if word in finding.title]
    return finding


def test_nothing_is_wrong_with_good_numbers():
    findings = diagnose(study())
    assert {finding.level for finding in findings} == {GOOD}
    text = find(findings, "2 of 3 latents are used").text
    assert "2 of them hold 90% of the nats" in text
    assert "a `latent_dim` of 2 would do" in text


@pytest.mark.parametrize(
    "numbers", [{"active_units": 0}, {"mutual_information": 0.03, "marginal_kl": 0.0}]
)
def test_collapse_is_told_with_evidence_and_mends(numbers):
    finding = find(diagnose(study(**numbers)), "collapsed")
    assert finding.level == WARNING
    for mend in ("warm up", "free_bits", "beta", "smaller decoder"):
        assert mend in finding.text


def test_an_estimate_at_its_bound_is_not_taken_for_the_truth():
    finding = find(diagnose(study(mutual_information=6.8)), "names its image")
    assert finding.level == NOTE
    assert "log(1,000) = 6.91" in finding.text
    assert "upper bound" in finding.text


@pytest.mark.parametrize(
    ("objective", "title"),
    [
        (None, "leaves nats"),
        (ELBO(Constant(1.0)), "leaves nats"),
        (IWAE(num_samples=5), "not what was trained"),
        (ELBO(4.0), "not what was trained"),
        (ELBO(Linear(0.0, 2.0, num_steps=1)), "not what was trained"),
        (ELBO(free_bits=0.1), "not what was trained"),
    ],
)
def test_a_wide_gap_is_seen_in_the_light_of_the_objective(objective, title):
    finding = find(diagnose(study(objective=objective, elbo={"mean": -99.0})), title)
    assert finding.level == NOTE
    assert "lies 9.00 nats below the log-likelihood, -90.00" in finding.text
    assert ("5 importance samples" in finding.text) == isinstance(objective, IWAE)


@pytest.mark.parametrize("nats", [-90.0, 0.0, 4000.0])
@pytest.mark.parametrize(("gap", "title"), [(0.9, "bound is tight"), (1.1, "leaves nats")])
def test_a_gap_is_wide_beside_the_kl_whatever_the_unit_of_the_data(nats, gap, title):
    numbers = {"elbo": {"mean": nats - gap}, "log_likelihood": {"mean": nats}}
    find(diagnose(study(**numbers)), title)


def test_codes_off_the_prior_are_warned_of():
    finding = find(diagnose(study(mutual_information=1.0, marginal_kl=4.0)), "prior")
    assert finding.level == WARNING
    assert "richer prior" in finding.text


@pytest.mark.parametrize(
    ("mean", "smallest", "level"),
    [(1.5, 1.0, WARNING), (6.0, 3.0, NOTE), (40.0, 1.2, NOTE), (40.0, 5.0, GOOD)],
)
def test_the_sampler_is_judged_by_its_effective_sample_size(mean, smallest, level):
    sizes = {"effective_sample_size": mean, "smallest_effective_sample_size": smallest}
    finding = find(diagnose(study(**sizes)), "log-likelihood")
    assert finding.level == level
    assert f"Of 500 importance samples, {mean:.1f} count on the mean of 50 images" in finding.text


def test_fewer_images_than_are_sampled_are_told():
    few = study(images=np.zeros((10, 4, 4, 1), np.float32))
    assert "on the mean of 10 images" in find(diagnose(few), "log-likelihood").text


def test_a_loose_bound_is_told_with_its_nats():
    finding = find(diagnose(study(elbo={"mean": -100.0})), "nats on the table")
    assert finding.level == NOTE
    assert "10.00 nats below" in finding.text


def test_grey_values_under_a_bernoulli_are_warned_of_and_under_a_density_are_not():
    gray = np.full((1000, 4, 4, 1), 0.5, np.float32)
    assert find(diagnose(study(images=gray)), "no log-likelihoods").level == WARNING
    titles = [f.title for f in diagnose(study(images=gray, likelihood=ContinuousBernoulli()))]
    assert "The nats are no log-likelihoods" not in titles


def test_foreign_data_is_named():
    numbers = {"mutual_information": 1.0, "marginal_kl": 4.0, "elbo": {"mean": -99.0}}
    for collapsed in ({}, {"active_units": 0}):
        findings = diagnose(study(is_foreign=True, **numbers | collapsed))
        assert "mnist" in find(findings, "other data").text
        # What is odd about other data is no reason to change the model.
        assert {finding.level for finding in findings} == {NOTE, GOOD}
        text = "".join(finding.text for finding in findings)
        for advice in ("richer", "larger encoder", "would do", "What helps", "free_bits"):
            assert advice not in text


@pytest.mark.parametrize(("auroc", "level"), [(0.7, NOTE), (0.97, GOOD)])
def test_detection_is_told_with_its_numbers(auroc, level):
    finding = find(diagnose(study(), Detection(120.0, 0.25, auroc, 300)), "upside down")
    assert finding.level == level
    assert "25% of 300 mirrored" in finding.text
    assert f"{auroc:.3f}" in finding.text
