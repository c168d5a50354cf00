"""Figure 2: the learned orders of the norms, a line a block."""

import pandas as pd

from train.reproduce.figure import figure, save_table
from train.reproduce.runs import run

__all__ = ["reproduce"]


def reproduce(folder, quick):
    """The figure, its csv and the verdict: do orders leave 2, and do p_1 > p_0 > p_2 hold?"""
    done = run(folder / "run", quick, "digits", "--learn_p", "--niters=3000", "--max_minutes=0",
               "--p_range=1.5-2.5", "--nocertified")
    table = pd.DataFrame(done.metrics["layers"])
    table = table[table.block.str.contains("conv")]
    save_table(table, folder / "fig2.csv")
    orders = {}
    with figure(folder / "fig2.png", figsize=(7, 2.8)) as ax:
        place = 0
        for block, own in table.groupby("block", sort=False):
            values = [own.domain.iloc[0], *own.codomain]
            orders[block] = values
            ax.plot(range(place, place + len(values)), values, marker="o")
            place += len(values)
        ax.axhline(2, color="black", lw=0.8)
        ax.set(xlabel="input and hidden states of the blocks, in the order of depth",
               ylabel="order p of the norm", xticks=[])
    count = sum(p[1] > p[0] > p[2] for p in orders.values())
    drift = max(abs(p - 2) for own in orders.values() for p in own)
    word = "confirmed" if count > len(orders) / 2 else "not confirmed"
    return (f"{word}: the order rises to the first hidden state and falls below to the second in "
            f"{count} of {len(orders)} blocks; the farthest order from 2 is {drift:.2f} away")
