"""Settings of the Omniglot runs, and the numbers they stand beside.

Rates are in units of the mean loss. The authors of MAML sum over the ways:
their α of 0.4 at 5 ways, and 0.1 at 20, is 2 here. Those of Reptile and
iMAML take the mean, as we do.
"""

from mamlkit.paths import CHECKPOINTS

METHODS = ("learned", "fixed", "fomaml", "reptile", "anil", "imaml")
# Accuracy in percent, by (model, ways, shots): Finn et al. 2017, Table 1;
# FOMAML and Reptile with transduction from Nichol et al. 2018, Table 1; iMAML
# with gradient descent from Rajeswaran et al. 2019, Table 2; ANIL from Raghu
# et al. 2020, Table 2.
MAML = {
    ("cnn", 5, 1): 98.7,
    ("cnn", 5, 5): 99.9,
    ("cnn", 20, 1): 95.8,
    ("cnn", 20, 5): 98.9,
    ("mlp", 5, 1): 89.7,
    ("mlp", 5, 5): 97.5,
}
PAPER = {
    "learned": MAML,
    "fixed": MAML,
    "fomaml": {("cnn", 5, 1): 98.3, ("cnn", 20, 1): 89.4},
    "reptile": {("cnn", 5, 1): 97.7, ("cnn", 20, 1): 89.4},
    "anil": {("cnn", 20, 1): 96.2},
    "imaml": {("cnn", 5, 1): 99.2, ("cnn", 20, 1): 94.5},
}
# The network of 20 ways answers the same with the learned rates of its first
# three convolutions at 0; an iteration then takes half as long.
LOWER = ("body.0.", "body.1.", "body.3.", "body.4.", "body.6.", "body.7.")
# By (model, ways, shots): where the flags differ from the common ones. The
# long ones begin where an easier one ended; 20-way 1-shot after 15,000
# iterations on distorted images (--jitter --iterations 15000 --meta-lr 3e-3
# --start data/checkpoints/omniglot_5way_1shot.pt).
DISTORTED = CHECKPOINTS / "omniglot_20way_1shot_distorted.pt"
LEARNED = {
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
# Learned rates of the first convolution came out as 0, so it need not be
# adapted, and an iteration takes 0.6 x as long.
SHARED = {"cnn": ("body.0.", "body.1."), "mlp": ()}
COMMON = {
    "iterations": 5_000,
    "tasks": 12,
    "queries": 3,
    "inner_lr": 0.4,
    "meta_lr": 3e-3,
    "steps": 1,
    "most_steps": 3,
    "width": 64,
    "anneal": True,
    "validation_images": 2_000,  # queries judged, at 1 shot, 20 times
    "jitter": False,
    "mirror": False,
    "start": None,
}
# By method, for any task; then by (ways, shots).
VARIANTS = {
    # Finn et al. 2017, App. A.1: 32 tasks of K queries a class (16 at 20
    # ways), Adam's 1e-3, one step in training and three at test (five and
    # five at 20 ways). Theirs are 60,000 iterations without a schedule.
    "fixed": {
        "inner_lr": 2.0,
        "meta_lr": 1e-3,
        "tasks": 32,
        "queries": 1,
        "test_steps": 3,
    },
    "fomaml": {"iterations": 8_000, "inner_lr": 0.5},
    "anil": {"iterations": 8_000, "inner_lr": 2.0},
    # Nichol et al. 2018, App. A: 10 shots in training, Adam's rate within
    # tasks, ε from 1 to 0, and 100,000 iterations (200,000 at 20 ways).
    "reptile": {
        "iterations": 20_000,
        "tasks": 5,
        "train_shots": 10,
        "batch": 10,
        "inner_lr": 1e-3,
        "meta_lr": 1.0,
        "steps": 5,
        "test_batch": 5,
        "test_steps": 50,
        "validation_images": 500,
    },
    # Rajeswaran et al. 2019, Sec. 5 and above all their code, where Adam takes
    # 20,000 steps on 32 tasks, β 1e-3; with 6 tasks 3e-3 learns faster.
    "imaml": {
        "iterations": 8_000,
        "tasks": 6,
        "queries": 5,
        "inner_lr": 0.1,
        "meta_lr": 3e-3,
        "steps": 16,
        "test_steps": 16,
        "strength": 2.0,
        "cg_steps": 5,
    },
}
BY_TASK = {
    ("fixed", 5, 1): {"iterations": 8_000},
    # As many iterations and tasks as the learned rates, or as FOMAML and ANIL,
    # or an hour's.
    ("fixed", 5, 5): {"iterations": 4_000, "tasks": 8, "queries": 5},
    ("fixed", 20, 1): {
        "iterations": 8_000,
        "tasks": 3,
        "steps": 5,
        "test_steps": 5,
    },
    ("fixed", 20, 5): {
        "iterations": 2_400,
        "tasks": 2,
        "queries": 5,
        "steps": 5,
        "test_steps": 5,
    },
    # At 20 ways a task has four times as many images, and with at most
    # three steps at test the third was still the best.
    ("fomaml", 20, 1): {"tasks": 3, "most_steps": 10},
    ("anil", 20, 1): {"tasks": 3, "most_steps": 10, "inner_lr": 8.0},
    # The steps of its authors at 20 ways.
    ("imaml", 20, 1): {
        "iterations": 2_400,
        "tasks": 2,
        "steps": 25,
        "test_steps": 25,
    },
}
