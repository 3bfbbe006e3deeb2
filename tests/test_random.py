import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae.random import fixed_seed, replica_seed
from tests.strategies import mirrored


def normal(seed, shape=(1000,)):
    return tf.random.stateless_normal(shape, seed).numpy()


@pytest.mark.parametrize("seed", [0, 7, -1, 2**31, 2**40 + 3, -(2**35), np.int64(5)])
def test_any_integer_is_a_seed(seed):
    assert fixed_seed(seed).shape == (2,)
    assert fixed_seed(seed).dtype == tf.int32
    np.testing.assert_array_equal(fixed_seed(seed), fixed_seed(seed))


def test_different_integers_give_different_noise():
    seeds = [0, 1, 2, -1, -2, 2**31, 2**31 + 1, 2**40]
    assert len({normal(fixed_seed(seed), ()).item() for seed in seeds}) == len(seeds)


def test_no_seed_gives_fresh_noise_each_time():
    assert normal(fixed_seed(None), ()) != normal(fixed_seed(None), ())


def test_no_seed_is_made_repeatable_by_keras():
    keras.utils.set_random_seed(3)
    first = [fixed_seed(None).numpy().tolist() for _ in range(2)]
    keras.utils.set_random_seed(3)
    assert first == [fixed_seed(None).numpy().tolist() for _ in range(2)]


def test_replica_seed_advances_the_generator():
    generator = keras.random.SeedGenerator(1)
    assert normal(replica_seed(generator), ()) != normal(replica_seed(generator), ())


def test_replica_seed_repeats_with_the_generators_seed():
    first, second = (replica_seed(keras.random.SeedGenerator(4)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_replica_seed_differs_between_replicas_and_repeats():
    strategy = mirrored()

    def draw():
        with strategy.scope():
            generator = keras.random.SeedGenerator(4)
        run = tf.function(lambda: strategy.run(lambda: replica_seed(generator)))
        return [seed.numpy().tolist() for _ in range(2) for seed in run().values]

    seeds = draw()
    assert len({tuple(seed) for seed in seeds}) == 4
    assert draw() == seeds
