"""The networks of the benchmark in PyTorch, weight for weight those of keras_vae."""

import torch
from torch import nn

LATENTS = 16


def encoder(network: str, latent_dim: int = LATENTS) -> nn.Module:
    """Returns the encoder: images to means and log-variances, (batch, 2 * latent_dim)."""
    if network == "dense":
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(784, 512),
            nn.ReLU(),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Linear(512, 2 * latent_dim),
        )
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(7 * 7 * 64, 256),
        nn.ReLU(),
        nn.Linear(256, 2 * latent_dim),
    )


def decoder(network: str, latent_dim: int = LATENTS) -> nn.Module:
    """Returns the decoder: latents, (batch, latent_dim), to logits, (batch, 1, 28, 28)."""
    if network == "dense":
        return nn.Sequential(
            nn.Linear(latent_dim, 512),
            nn.ReLU(),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Linear(512, 784),
            nn.Unflatten(1, (1, 28, 28)),
        )
    return nn.Sequential(
        nn.Linear(latent_dim, 256),
        nn.ReLU(),
        nn.Linear(256, 7 * 7 * 64),
        nn.ReLU(),
        nn.Unflatten(1, (64, 7, 7)),
        nn.ConvTranspose2d(64, 32, 3, 2, 1, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 1, 3, 2, 1, 1),
    )


class VAE(nn.Module):
    """Encoder, decoder, and the negative ELBO of a batch."""

    def __init__(self, network: str, latent_dim: int = LATENTS):
        super().__init__()
        self.encoder, self.decoder = encoder(network, latent_dim), decoder(network, latent_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the mean negative ELBO of images, (batch, 1, 28, 28), in nats."""
        loc, log_variance = self.encoder(x).float().chunk(2, dim=-1)
        z = loc + torch.exp(0.5 * log_variance) * torch.randn_like(loc)
        reconstruction = nn.functional.binary_cross_entropy_with_logits(
            self.decoder(z).float(), x, reduction="sum"
        )
        kl = 0.5 * torch.sum(loc**2 + torch.exp(log_variance) - log_variance - 1)
        return (reconstruction + kl) / len(x)
