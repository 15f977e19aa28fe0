"""Settings of the Omniglot runs, and the numbers they stand beside."""

from mamlkit.paths import CHECKPOINTS

# Table 1, accuracy in percent, by (model, ways, shots).
PAPER = {
    ("cnn", 5, 1): 98.7,
    ("cnn", 5, 5): 99.9,
    ("cnn", 20, 1): 95.8,
    ("cnn", 20, 5): 98.9,
    ("mlp", 5, 1): 89.7,
    ("mlp", 5, 5): 97.5,
}
# The network of 20 ways answers the same with the learned rates of its first
# three convolutions at 0; an iteration then takes half as long.
LOWER = ("body.0.", "body.1.", "body.3.", "body.4.", "body.6.", "body.7.")
# By (model, ways, shots): where the flags differ from the common ones. The
# long ones begin where an easier one ended; 20-way 1-shot after 15,000
# iterations on distorted images (--jitter --iterations 15000 --meta-lr 3e-3
# --start data/checkpoints/omniglot_5way_1shot.pt).
DISTORTED = CHECKPOINTS / "omniglot_20way_1shot_distorted.pt"
DEFAULTS = {
    ("cnn", 20, 1): {
        "iterations": 16_000,
        "tasks": 2,
        "queries": 4,
        "meta_lr": 2e-3,
        "start": DISTORTED,
    },
    ("cnn", 20, 5): {
        "iterations": 24_000,
        "tasks": 2,
        "queries": 5,
        "meta_lr": 2e-3,
        "mirror": True,
        "shared": LOWER,
        "start": CHECKPOINTS / "omniglot_20way_1shot.pt",
    },
    ("cnn", 5, 5): {
        "iterations": 4_000,
        "tasks": 8,
        "queries": 5,
        "meta_lr": 1e-3,
        "mirror": True,
        "shared": LOWER,
        "start": CHECKPOINTS / "omniglot_20way_5shot.pt",
    },
    ("mlp", 5, 1): {
        "iterations": 20_000,
        "tasks": 16,
        "queries": 5,
        "meta_lr": 2e-3,
        "jitter": True,
        "shared": ("1.", "2."),
    },
    ("mlp", 5, 5): {
        "iterations": 8_000,
        "tasks": 8,
        "queries": 5,
        "meta_lr": 2e-3,
        "jitter": True,
        "start": CHECKPOINTS / "omniglot_mlp_5way_1shot.pt",
    },
}
COMMON = {
    "iterations": 5_000,
    "tasks": 12,
    "queries": 3,
    "inner_lr": 0.4,
    "meta_lr": 3e-3,
    "steps": 1,
    "jitter": False,
    "mirror": False,
    "start": None,
}
# Learned rates of the first convolution came out as 0, so it need not be
# adapted, and an iteration takes 0.6 x as long.
SHARED = {"cnn": ("body.0.", "body.1."), "mlp": ()}
