"""The transformer by scikit-learn's own checks and against PCA; codes against known answers."""

import pickle
import sys

import keras
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from keras_vae import DenseVAE, representation
from keras_vae.representation import VAETransformer


# Small and short, so that training is never compiled: the checks fit dozens of times.
@parametrize_with_checks([VAETransformer(hidden_units=(4,), epochs=1)])
def test_scikit_learn_finds_nothing_wrong(estimator, check):
    check(estimator)


def correlated(num_examples, seed=0):
    """Returns two factors seen through five features of very different size and place."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(2, 5))
    values = rng.normal(size=(num_examples, 2)) @ mixing
    values += 0.3 * rng.normal(size=values.shape)
    return values * [1.0, 100.0, 0.01, 5.0, 1.0] + [0.0, 1e3, 0.0, -2.0, 7.0]


def quick(**arguments):
    return VAETransformer(**({"hidden_units": (8,), "epochs": 2, "random_state": 0} | arguments))


@pytest.fixture(scope="module")
def fitted():
    return quick().fit(correlated(60))


class TestTransformer:
    def test_a_linear_vae_reaches_the_likelihood_of_probabilistic_pca(self):
        x, held_out = correlated(400), correlated(400, seed=1)
        transformer = VAETransformer(
            2, (), epochs=150, batch_size=100, learning_rate=0.03, random_state=0
        ).fit(x)
        scaler = StandardScaler().fit(x)
        pca = PCA(2).fit(scaler.transform(x))
        units = np.log(scaler.scale_).sum()
        expected = pca.score(scaler.transform(held_out)) - units
        # The bound is tight at the optimum (Lucas et al. 2019, "Don't Blame the ELBO!"); Adam with
        # noisy gradients stops around it: seeds 0 to 3 end within 0.08.
        assert transformer.score(held_out) == pytest.approx(expected, abs=0.15)
        rebuilt = transformer.inverse_transform(transformer.transform(held_out))
        error = np.mean(((rebuilt - held_out) / scaler.scale_) ** 2)
        assert error == pytest.approx(shrunken_pca_error(pca, scaler.transform(held_out)), rel=0.05)

    def test_codes_and_reconstructions_have_the_shapes_of_latents_and_features(self, fitted):
        x = correlated(7)
        codes = fitted.transform(x)
        assert codes.shape == (7, 2)
        assert fitted.inverse_transform(codes).shape == x.shape

    def test_codes_are_the_posterior_means_of_standardised_features(self, fitted):
        x = correlated(60)
        standardised = StandardScaler().fit_transform(x)
        expected = fitted.model_.encode(standardised).mean()
        np.testing.assert_allclose(fitted.transform(x), expected, atol=1e-5)

    def test_many_examples_are_worked_through_in_pieces(self, fitted):
        x = correlated(1203)
        codes = fitted.transform(x)
        np.testing.assert_allclose(codes[1100:], fitted.transform(x[1100:]), atol=1e-5)
        rebuilt = fitted.inverse_transform(codes)
        np.testing.assert_allclose(
            rebuilt[1100:], fitted.inverse_transform(codes[1100:]), rtol=1e-5, atol=1e-5
        )

    def test_score_is_the_elbo_in_the_units_of_the_data(self, fitted):
        x = correlated(60)
        elbo = fitted.model_.elbo(StandardScaler().fit_transform(x), 2000, seed=0)
        expected = np.mean(elbo) - np.log(x.std(axis=0)).sum()
        # A mean over 60 * 10 samples that vary by about two nats.
        assert fitted.score(x) == pytest.approx(expected, abs=0.4)

    @pytest.mark.parametrize("epochs", [1, 30])
    def test_the_random_state_decides_codes_and_scores_whatever_the_global_seeds(self, epochs):
        # Once below and once above the number of steps from which training is compiled.
        x, fits = correlated(60), []
        for global_seed in (1, 2):
            keras.utils.set_random_seed(global_seed)
            fits.append(quick(epochs=epochs).fit(x))
        np.testing.assert_array_equal(fits[0].transform(x), fits[1].transform(x))
        assert fits[0].score(x) == fits[1].score(x)

    def test_another_random_state_gives_other_codes(self, fitted):
        x = correlated(60)
        other = quick(random_state=1).fit(x)
        assert np.abs(fitted.transform(x) - other.transform(x)).max() > 0.01

    def test_a_random_state_that_goes_on_gives_other_codes(self):
        x, random_state = correlated(60), np.random.RandomState(0)
        first, second = (quick(random_state=random_state).fit_transform(x) for _ in range(2))
        assert np.abs(first - second).max() > 0.01

    def test_fit_leaves_the_global_seeds_alone(self):
        drawn = []
        for fits in (False, True):
            keras.utils.set_random_seed(3)
            if fits:
                quick().fit(correlated(10))
            drawn.append(np.random.random())
        assert drawn[0] == drawn[1]

    def test_training_raises_the_score(self):
        x = correlated(200)
        short, long = (quick(epochs=epochs, learning_rate=0.03).fit(x) for epochs in (1, 12))
        assert long.score(x) > short.score(x) + 0.5

    def test_epochs_differ_in_their_order_and_each_shows_every_example_once(self):
        x = np.arange(10.0, dtype=np.float32)[:, np.newaxis]
        batches = list(representation._shuffled_epochs(x, 2, 4, seed=5).as_numpy_iterator())
        assert [len(batch) for batch in batches] == [4, 4, 2, 4, 4, 2]
        first, second = np.concatenate(batches[:3]), np.concatenate(batches[3:])
        np.testing.assert_array_equal(np.sort(first, axis=0), x)
        np.testing.assert_array_equal(np.sort(second, axis=0), x)
        assert np.any(first != second)

    def test_a_pipeline_is_cross_validated_like_any_other(self):
        x = np.concatenate([correlated(40), correlated(40) + [9.0, 900.0, 0.1, 50.0, 9.0]])
        labels = np.repeat([0, 1], 40)
        pipeline = make_pipeline(
            MinMaxScaler(), quick(epochs=40, learning_rate=0.03), LogisticRegression()
        )
        # The two classes lie many standard deviations apart.
        assert cross_val_score(pipeline, x, labels, cv=2).mean() > 0.95

    def test_a_search_compares_held_out_elbos_and_takes_numpy_integers(self):
        x = correlated(60)
        split = [(np.arange(40), np.arange(40, 60))]
        search = GridSearchCV(quick(), {"latent_dim": np.arange(1, 3)}, cv=split, refit=False)
        expected = [quick(latent_dim=size).fit(x[:40]).score(x[40:]) for size in (1, 2)]
        assert search.fit(x).cv_results_["mean_test_score"].tolist() == pytest.approx(expected)

    def test_feature_names_number_the_latents(self, fitted):
        assert fitted.get_feature_names_out().tolist() == ["vaetransformer0", "vaetransformer1"]

    def test_a_pickle_gives_the_same_codes_in_a_fresh_process(self, fitted, run_python, tmp_path):
        x = correlated(5)
        (tmp_path / "fitted.pickle").write_bytes(pickle.dumps((fitted, x)))
        program = """
import pickle
fitted, x = pickle.load(open("fitted.pickle", "rb"))
pickle.dump(fitted.transform(x), open("codes.pickle", "wb"))
"""
        run_python(program)
        codes = pickle.loads((tmp_path / "codes.pickle").read_bytes())
        np.testing.assert_allclose(codes, fitted.transform(x), atol=1e-6)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"latent_dim": 0}, "`latent_dim` should be integers >= 1. Received: 0"),
            ({"latent_dim": 1.5}, "Received: 1.5"),
            ({"hidden_units": (8, 0)}, "`hidden_units` should be integers >= 1. Received: 0"),
            ({"epochs": 0}, "`epochs`"),
            ({"batch_size": -1}, "`batch_size`"),
            ({"learning_rate": 0.0}, "`learning_rate` should be > 0. Received: learning_rate=0.0"),
            ({"learning_rate": float("nan")}, "Received: learning_rate=nan"),
        ],
    )
    def test_arguments_out_of_range_are_refused_by_fit(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            quick(**arguments).fit(correlated(10))

    def test_training_that_diverges_is_told_with_the_mend(self):
        with pytest.raises(ValueError, match="a lower rate may mend it. Received: learning_rate="):
            quick(learning_rate=1e30, epochs=4).fit(correlated(10))

    def test_missing_scikit_learn_is_told_with_the_mend(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "sklearn.base", None)
        monkeypatch.delitem(sys.modules, "keras_vae.representation")
        with pytest.raises(ImportError, match=r'pip install -U "keras-vae\[data\]"'):
            __import__("keras_vae.representation")


class TestReadyModel:
    def test_images_go_through_it_flat_and_unscaled(self, make_vae, images):
        vae, flat = make_vae(), images.reshape(32, 64)
        transformer = VAETransformer(model=vae, random_state=0).fit(flat)
        codes = transformer.transform(flat)
        np.testing.assert_allclose(codes, vae.encode(images).mean(), atol=1e-6)
        expected = np.reshape(vae.decode(codes).mean(), (32, 64))
        np.testing.assert_allclose(transformer.inverse_transform(codes), expected, atol=1e-6)

    def test_its_score_is_the_mean_elbo(self, make_vae, images):
        vae = make_vae()
        transformer = VAETransformer(model=vae, random_state=0).fit(images.reshape(32, 64))
        elbo = np.mean(vae.elbo(images, 1000, seed=0))
        # A mean over 32 * 10 samples that vary by a few nats.
        assert transformer.score(images.reshape(32, 64)) == pytest.approx(elbo, abs=0.5)

    def test_fit_trains_nothing(self, make_vae, images):
        vae = make_vae()
        before = [np.copy(weight) for weight in vae.get_weights()]
        VAETransformer(model=vae).fit(images.reshape(32, 64))
        for weight, same in zip(vae.get_weights(), before, strict=True):
            np.testing.assert_array_equal(weight, same)

    def test_a_clone_has_a_model_of_its_own_with_the_same_weights(self, make_vae, images):
        transformer = VAETransformer(model=make_vae()).fit(images.reshape(32, 64))
        twin = clone(transformer)
        assert twin.model is not transformer.model
        np.testing.assert_allclose(
            twin.fit_transform(images.reshape(32, 64)),
            transformer.transform(images.reshape(32, 64)),
            atol=1e-6,
        )

    def test_another_number_of_features_is_refused(self):
        vae = DenseVAE((4, 4, 1), 2, hidden_units=())
        with pytest.raises(ValueError, match=r"have 16 features, as .* \(4, 4, 1\). Received: 5"):
            VAETransformer(model=vae).fit(correlated(3))


@pytest.fixture(scope="module")
def blobs():
    """Three far groups of codes, 20 each, and their names."""
    rng = np.random.default_rng(0)
    centres = np.repeat([[0.0, 9.0], [9.0, 0.0], [-9.0, 0.0]], 20, axis=0)
    return centres + rng.normal(size=centres.shape), np.repeat(["a", "b", "c"], 20)


class TestCodes:
    def test_a_probe_of_separable_codes_is_always_right(self, blobs):
        codes, labels = blobs
        found = representation.linear_probe(
            codes[::2], labels[::2], test_codes=codes[1::2], test_labels=labels[1::2]
        )
        assert found == 1.0

    def test_a_probe_does_not_see_what_is_not_linear_and_neighbours_do(self):
        rng = np.random.default_rng(0)
        codes = rng.uniform(-1.0, 1.0, size=(800, 2))
        labels = (codes > 0).all(axis=1) | (codes < 0).all(axis=1)  # a chessboard of four fields
        split = {"test_codes": codes[400:], "test_labels": labels[400:]}
        linear = representation.linear_probe(codes[:400], labels[:400], **split)
        nearest = representation.nearest_neighbour_accuracy(codes[:400], labels[:400], **split)
        assert linear < 0.65
        assert nearest > 0.9

    def test_a_probe_does_not_mind_the_scale_of_a_latent(self, blobs):
        codes, labels = blobs
        found = [
            representation.linear_probe(x, labels, test_codes=x, test_labels=labels[::-1])
            for x in (codes, codes * [1e-6, 1e6])
        ]
        assert found[0] == found[1] == pytest.approx(1 / 3)

    def test_the_nearest_neighbour_of_a_code_is_itself_and_all_of_them_outvote_it(self, blobs):
        codes, labels = blobs
        split = {"test_codes": codes, "test_labels": labels}
        nearest = [
            representation.nearest_neighbour_accuracy(codes, labels, num_neighbours=k, **split)
            for k in (1, 60)
        ]
        assert nearest == [1.0, pytest.approx(1 / 3)]

    def test_retrieval_finds_what_a_full_search_finds(self):
        rng = np.random.default_rng(0)
        codes, queries = rng.normal(size=(50, 3)), rng.normal(size=(4, 3))
        distances = np.linalg.norm(queries[:, np.newaxis] - codes, axis=-1)
        found = representation.retrieve(codes, queries, num_neighbours=7)
        np.testing.assert_array_equal(found.indices, distances.argsort(axis=1)[:, :7])
        np.testing.assert_allclose(found.distances, np.sort(distances, axis=1)[:, :7])

    @pytest.mark.parametrize("num_neighbours", [0, 4])
    def test_more_neighbours_than_codes_are_refused(self, num_neighbours):
        codes = np.zeros((3, 2))
        with pytest.raises(
            ValueError, match=f"codes, 3. Received: num_neighbours={num_neighbours}"
        ):
            representation.retrieve(codes, codes, num_neighbours=num_neighbours)

    @pytest.mark.parametrize(
        "method", [KMeans(3, random_state=0), GaussianMixture(3, random_state=0)]
    )
    def test_a_perfect_clustering_scores_one(self, blobs, method):
        codes, labels = blobs
        found = representation.cluster(codes, labels, method=method)
        assert found == {"nmi": pytest.approx(1.0), "ari": 1.0, "accuracy": 1.0}

    def test_clusters_without_a_class_of_their_own_count_as_wrong(self, blobs):
        codes, _ = blobs
        # Three clusters and two classes: the smaller of the two that share a class is lost.
        labels = np.repeat([0, 1], [20, 40])
        found = representation.cluster(codes, labels, method=KMeans(3, random_state=0))
        assert found["accuracy"] == pytest.approx(40 / 60)
        # H(class) = log 3 - 2/3 log 2, H(cluster) = log 3, and the class is known by the cluster.
        entropy = np.log(3) - 2 / 3 * np.log(2)
        assert found["nmi"] == pytest.approx(2 * entropy / (entropy + np.log(3)))

    def test_the_best_matching_is_found_where_a_greedy_one_fails(self):
        class Given(KMeans):
            def fit_predict(self, X, y=None):
                return X[:, 0].astype(int)

        # Rows are classes, columns clusters: [[5, 4], [4, 0]]. The largest first gives 5, not 8.
        clusters = np.repeat([0, 1, 0], [5, 4, 4])[:, np.newaxis]
        labels = np.repeat([0, 0, 1], [5, 4, 4])
        found = representation.cluster(clusters, labels, method=Given())
        assert found["accuracy"] == pytest.approx(8 / 13)

    def test_the_clustering_method_is_left_as_it_is(self, blobs):
        method = KMeans(3, random_state=0)
        representation.cluster(*blobs, method=method)
        assert not hasattr(method, "labels_")


def shrunken_pca_error(pca, x):
    """Returns the mean square that the posterior means of probabilistic PCA leave."""
    # They are shrunken: eigenvalue - noise out of eigenvalue.
    share = 1 - pca.noise_variance_ / pca.explained_variance_
    codes = pca.transform(x) * share
    return np.mean((pca.inverse_transform(codes) - x) ** 2)
