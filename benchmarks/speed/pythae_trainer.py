"""pythae's own trainer, on the networks of `torch_nets`."""

import logging
import tempfile

import torch
from pythae.data.datasets import BaseDataset, DatasetOutput
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig

from benchmarks.speed import torch_nets
from benchmarks.speed.contestant import serve
from benchmarks.speed.inputs import gray_images


class Encoder(BaseEncoder):
    """As pythae wants it: the logarithm of the variance."""

    def __init__(self, network):
        super().__init__()
        self.layers = torch_nets.encoder(network)

    def forward(self, x):
        loc, log_variance = self.layers(x).chunk(2, dim=-1)
        return ModelOutput(embedding=loc, log_covariance=log_variance)


class Decoder(BaseDecoder):
    """As pythae wants it: probabilities, not logits."""

    def __init__(self, network):
        super().__init__()
        self.layers = torch_nets.decoder(network)

    def forward(self, z):
        return ModelOutput(reconstruction=torch.sigmoid(self.layers(z)))


class Binarized(BaseDataset):
    """Draws each image anew whenever it is asked for."""

    def __getitem__(self, index):
        return DatasetOutput(data=torch.bernoulli(self.data[index]), labels=self.labels[index])


def _prepare(task):
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    config = VAEConfig(
        input_dim=(1, 28, 28), latent_dim=torch_nets.LATENTS, reconstruction_loss="bce"
    )
    vae = VAE(config, Encoder(task["network"]), Decoder(task["network"]))
    images = torch.tensor(gray_images(task["num_images"])).permute(0, 3, 1, 2) / 255
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

    def epoch():
        trainer.train_step(1)

    epoch()
    return epoch


if __name__ == "__main__":
    serve(_prepare)
