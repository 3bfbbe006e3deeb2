"""pythae's own trainer, on the networks of `torch_nets`."""

import logging
import tempfile

import torch
from pythae.data.datasets import BaseDataset, DatasetOutput
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig

from benchmarks.speed.contestants import torch_nets
from benchmarks.speed.contestants.images import binary_images, gray_images, splits
from benchmarks.speed.contestants.process import learner, serve
from benchmarks.speed.contestants.torch_vae import tensor


class Encoder(BaseEncoder):
    """As pythae wants it: the logarithm of the variance."""

    def __init__(self, network, latent_dim):
        super().__init__()
        self.layers = torch_nets.encoder(network, latent_dim)

    def forward(self, x):
        loc, log_variance = self.layers(x).chunk(2, dim=-1)
        return ModelOutput(embedding=loc, log_covariance=log_variance)


class Decoder(BaseDecoder):
    """As pythae wants it: probabilities, not logits."""

    def __init__(self, network, latent_dim):
        super().__init__()
        self.layers = torch_nets.decoder(network, latent_dim)

    def forward(self, z):
        return ModelOutput(reconstruction=torch.sigmoid(self.layers(z)))


class Binarized(BaseDataset):
    """Draws each image anew whenever it is asked for."""

    def __getitem__(self, index):
        return DatasetOutput(data=torch.bernoulli(self.data[index]), labels=self.labels[index])


def network(task: dict) -> VAE:
    """Returns the network of a task, fresh, from a fixed seed."""
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    kind, latent_dim = task["network"], task.get("latent_dim", torch_nets.LATENTS)
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=latent_dim, reconstruction_loss="bce")
    return VAE(config, Encoder(kind, latent_dim), Decoder(kind, latent_dim))


def _trainer(task, vae, images):
    trainer = BaseTrainer(
        vae,
        Binarized(images, torch.zeros(len(images))),
        training_config=BaseTrainerConfig(
            output_dir=tempfile.mkdtemp(),
            num_epochs=1,
            learning_rate=1e-3,
            per_device_train_batch_size=task["batch_size"],
            no_cuda=True,
            amp=False,
        ),
    )
    trainer.prepare_training()
    return trainer


def _train(task):
    trainer = _trainer(task, network(task), tensor(gray_images(task["num_images"])) / 255)

    def epoch():
        trainer.train_step(1)

    epoch()
    return epoch


def _learn(task):
    train, test = map(tensor, splits(task))
    vae = network(task)
    trainer = _trainer(task, vae, train / 255)

    @torch.inference_mode()
    def elbo():
        batches = (DatasetOutput(data=x) for x in test.split(1000))
        return -sum(float(vae(batch).loss) * len(batch["data"]) for batch in batches) / len(test)

    return learner(lambda: trainer.train_step(1), elbo)


def _score(task):
    images = tensor(binary_images(task["num_images"]))
    vae = network(task).eval()

    @torch.inference_mode()
    def score(images):
        return {"nll": -float(vae.get_nll(images, task["num_samples"], batch_size=1000))}

    score(images[:5])
    return lambda: score(images)


if __name__ == "__main__":
    serve(train=_train, learn=_learn, score=_score)
