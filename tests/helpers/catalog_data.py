"""Tiny model files that have the names and shapes by which their kind is told."""

import torch


def generator(path, version="v2", f0=True, rate="40k", posterior=True, wrapping="model"):
    """A generator of RVC's: a base, or without the posterior encoder a voice."""
    weights = {"enc_p.emb_phone.weight": torch.zeros(2, 256 if version == "v1" else 768),
               "emb_g.weight": torch.zeros(3, 2),
               "dec.ups.0.weight_v": torch.zeros(1, 1, 16), "dec.resblocks.0.convs1.0.weight_v": torch.zeros(1, 1, 3)}
    weights.update({"enc_p.emb_pitch.weight": torch.zeros(256, 2)} if f0 else {})
    weights.update({"enc_q.pre.weight": torch.zeros(1, 1, 1)} if posterior else {})
    return _save(path, {wrapping: weights, "sr": rate})


def discriminator(path, version="v2"):
    """A multi-period discriminator."""
    parts = 9 if version == "v2" else 6
    return _save(path, {"model": {f"discriminators.{part}.convs.0.weight_g": torch.zeros(2) for part in range(parts)}})


def _save(path, contents):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(contents, str(path))
    return path
