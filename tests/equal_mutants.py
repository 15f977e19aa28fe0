"""Mutants that are right: the same function, written in another way.

Each was looked at. One that newly passes has no place here until somebody has
done so.
"""

EQUAL = {
    "sums and means are in the same order": (
        ("0.2", "line 2: mean: ((examples - query) ** 2).sum"),
        ("5.4", "line 3: sum: errors[rate].nan_to_num(torch.inf).mean"),
        ("11.4", "line 2: sum: validation.mean"),
    ),
    "squared or compared, so the sign does not matter": (
        ("0.2", "line 2: swap: examples - query"),
        ("1.2", "line 4: swap: w * x - y"),
        ("5.2", "line 2: swap: y - y.mean(dim=0)"),
        ("6.2", "line 7: swap: slope.item() - 0.8"),
        ("7.1", "line 3: swap: x - mean"),
        ("7.2", "line 5: swap: queries[:, None] - prototypes"),
        (
            "8.1",
            "line 4: arguments 0, 1 swapped: torch.equal(old(x), make()(x))",
        ),
        ("10.1", "line 2: swap: f[:, None] - g"),
    ),
    "neither line needs the other": (
        (
            "0.3",
            "line 1: swapped with the next: examples = drawings[:, "
            "0].flatten(1)",
        ),
        (
            "1.2",
            "line 3: swapped with the next: loss = ((w * x - y) ** 2).mean()",
        ),
        ("11.3", "line 3: swapped with the next: adapted = params"),
        ("12.1", "line 1: swapped with the next: wait()"),
        (
            "13.1",
            "line 1: swapped with the next: let_in = (strangers >= "
            "tau).float().mean()",
        ),
        (
            "13.3",
            "line 1: swapped with the next: let_in = (test_strangers >= "
            "tau).float().mean()",
        ),
        (
            "2.3",
            "line 1: swapped with the next: x = images[classes, "
            "scores.argsort(1)[:, :k_shot + k_query]]",
        ),
        (
            "14.2",
            "line 1: swapped with the next: start = {'context': "
            "torch.zeros_like(params['context'])}",
        ),
        (
            "14.3",
            "line 1: swapped with the next: match = torch.zeros(features + "
            "1, features + 1)",
        ),
        (
            "14.3",
            "line 1: swapped with the next: value = torch.zeros(features + "
            "1, features + 1)",
        ),
        (
            "14.3",
            "line 1: swapped with the next: match[:features, :features] = "
            "torch.eye(features)",
        ),
    ),
    "a dict holds an entry once, and a mean does not mind": (
        ("0.3", "line 4: twice: range(1, drawings.shape[1])"),
        ("3.1", "line 0: twice: params"),
        ("3.2", "line 0: twice: zip(params, grads)"),
        ("3.4", "line 0: twice: params"),
        ("4.4", "line 3: twice: range(w.numel())"),
        ("4.5", "line 4: twice: range(len(tasks.support.x))"),
        ("4.5", "line 0: twice: params"),
        ("4.1", "line 3: twice: range(len(tasks.support.x))"),
        ("4.2", "line 0: twice: params"),
        ("5.1", "line 0: twice: params"),
        ("6.1", "line 0: twice: params"),
        ("6.4", "line 0: twice: supports"),
        ("6.4", "line 0: twice: params.items()"),
        ("8.3", "line 0: twice: old"),
        ("11.2", "line 0: twice: params.items()"),
        ("11.3", "line 0: twice: params.items()"),
        ("11.3", "line 0: twice: grads"),
        ("11.3", "line 0: twice: adapted.items()"),
    ),
    "no derivative goes this way": (
        ("1.2", "line 9: call dropped: w.detach()"),
        ("1.2", "line 9: detached: w"),
        ("3.1", "line 0: detached: params"),
        ("3.2", "line 6: detached: params"),
        ("3.4", "line 0: detached: params"),
        ("4.5", "line 0: detached: params"),
        ("4.1", "line 3: detached: tasks"),
        ("6.1", "line 2: detached: grad(loss_fn)(params, batch)"),
        ("6.1", "line 2: detached: params"),
        ("6.1", "line 0: detached: params"),
        ("6.1", "line 3: call dropped: grads[k].detach()"),
        ("6.1", "line 3: detached: grads[k]"),
        ("6.1", "line 3: detached: grads"),
        ("7.1", "line 3: detached: mean"),
        ("8.1", "line 3: detached: old(other)"),
        ("8.1", "line 4: detached: old(x)"),
        ("8.1", "line 4: detached: make()(x)"),
        ("8.2", "line 2: detached: q"),
        ("9.3", "line 3: call dropped: through.detach()"),
        ("9.3", "line 3: detached: through"),
        ("11.3", "line 5: detached: p"),
        ("11.3", "line 0: detached: grads"),
        ("11.3", "line 5: detached: params"),
        ("14.1", "line 2: detached: keys"),
        ("14.2", "line 2: detached: params['context']"),
        ("14.2", "line 2: detached: params"),
        ("12.2", "line 4: detached: error[0]"),
        ("12.2", "line 4: detached: error"),
    ),
    "a product of two vectors has no order": (
        ("15.2", "line 3: swap: slope @ direction"),
    ),
    "just at the limit is nobody": (
        ("6.2", "line 7: LtE: abs(slope.item() - 0.8) < 0.0001"),
        ("15.1", "line 2: LtE: goals.abs() < 0.01"),
    ),
    "any start does, and any tolerance": (
        ("6.2", "line 2: 0.0: 1.0"),
        ("6.2", "line 2: 2.0: 1.0"),
        ("6.2", "line 7: 0.0002: 0.0001"),
    ),
    "the same axis, or the same size": (
        ("7.1", "line 5: without argument 0: shift.view(1, -1, 1, 1)"),
        ("15.1", "line 2: no minus: -1"),
        ("15.1", "line 4: no minus: -1"),
        ("12.2", "line 4: -1: 0"),
        ("14.1", "line 2: queries in place of keys"),
        ("2.3", "line 5: without argument 0: scores.argsort(1)"),
        (
            "11.1",
            "line 3: without argument 0: torch.rand(n_tasks, n_way, "
            "generator=generator).argsort(-1)",
        ),
        ("11.1", "line 3: no minus: -1"),
    ),
    "nothing depends on it": (
        ("14.2", "last key only"),  # the weights stay as they came
        ("8.1", "x is always that of the first case"),
        ("8.1", "other is always that of the first case"),
        ("13.3", "val_members is always that of the first case"),
    ),
    "another order of the draws, as random": (
        (
            "2.3",
            "line 1: swapped with the next: classes = "
            "torch.randperm(n_classes, generator=generator)[:n_way, None]",
        ),
    ),
}
