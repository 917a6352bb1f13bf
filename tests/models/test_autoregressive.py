"""The autoregressive family against enumeration: it is a distribution, and caching does not change it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from molgen import AutoregressiveModel
from molgen.core.capabilities import Entries
from molgen.core.errors import ConfigError, UnsupportedError
from molgen.core.fields import Angles, Categorical, Continuous, Field
from molgen.core.rng import SampleRandom
from molgen.core.trunk import Trunk, TrunkSpec
from molgen.core.wrappers import GenerationOrder, Predictor
from molgen.modalities.image import ImageModality
from molgen.nn.transformer import Transformer
from tests.models.cells import draw, fitted

SMALL = {"width": 24, "depth": 2, "heads": 2}
MIXED: dict[str, Field] = {
    "kind": Categorical(3, window=(0.5, 1.0)),
    "bond": Categorical(2, pairs=True, window=(0.5, 1.0)),
    "turn": Angles(2, window=(0.0, 0.5)),
    "size": Continuous(1, window=(0.0, 0.5)),
}


def make(spec: TrunkSpec) -> Trunk:
    return Transformer(spec, width=24, depth=2, heads=2)


def predictor(fields: dict[str, Field], **options: object) -> Predictor:
    torch.manual_seed(0)
    network = Predictor(fields, make, **options).double().eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return network


def values(mask: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(1)
    b, n = mask.shape
    x: dict[str, Tensor] = {
        "kind": torch.randint(3, (b, n)),
        "bond": torch.randint(2, (b, n, n)),
        "turn": torch.rand(b, n, 2, dtype=torch.float64),
        "size": torch.randn(b, n, 1, dtype=torch.float64),
    }
    return {k: MIXED[k].project(v, mask) for k, v in x.items()}


def test_probabilities_of_all_short_strings_sum_to_one() -> None:
    network = predictor({"x": Categorical(3)})
    for n in (1, 2, 4):
        every = torch.tensor(list(itertools.product(range(3), repeat=n)))
        mask = torch.ones(len(every), n, dtype=torch.bool)
        total = network.log_prob({"x": every}, mask)["x"].exp().sum()
        assert total.item() == pytest.approx(1, abs=1e-6)


FULL = {"site_state": True, "pair_order": "nearest"}
orders = pytest.mark.parametrize("own", [{}, {"site_state": True}, FULL, {**FULL, "graph_hops": 2}])


@orders
def test_probabilities_of_all_small_graphs_sum_to_one(own: dict[str, Any]) -> None:
    fields: dict[str, Field] = {"a": Categorical(2), "b": Categorical(3, pairs=True)}
    network = predictor(fields, **own | {"graph_hops": 0})
    sites = torch.tensor(list(itertools.product(range(2), repeat=3)))
    bonds = torch.tensor(list(itertools.product(range(3), repeat=3)))
    a = sites.repeat_interleave(len(bonds), 0)
    flat = bonds.repeat(len(sites), 1)
    b = torch.zeros(len(a), 3, 3, dtype=torch.long)
    for k, (i, j) in enumerate([(0, 1), (0, 2), (1, 2)]):
        b[:, i, j] = b[:, j, i] = flat[:, k]
    mask = torch.ones(len(a), 3, dtype=torch.bool)
    log_p = network.log_prob({"a": a, "b": b}, mask)
    assert (log_p["a"] + log_p["b"]).exp().sum().item() == pytest.approx(1, abs=1e-6)


@orders
@pytest.mark.parametrize("sizes", [[5, 5], [5, 3]])
def test_cached_and_uncached_densities_agree(sizes: list[int], own: dict[str, Any]) -> None:
    """What `write` draws is what the densities of `forward` draw at the same uniforms."""
    network = predictor(MIXED, **own)
    mask = torch.arange(5)[None] < torch.tensor(sizes)[:, None]
    drawn = network.write(mask, SampleRandom(3, [0, 1]))
    raw = network(drawn, mask)
    layout, _ = network.layout(5)
    u = network._uniforms(layout, mask, SampleRandom(3, [0, 1]))
    for name, f in MIXED.items():
        slots = layout.slots(name)
        again = Entries.of(f).conditional(raw[name]).draw(u[:, slots])
        valid = layout.valid(mask, MIXED)[:, slots]
        gap = (again - layout.read(name, f, drawn[name])).abs() * valid
        assert gap.max() < 1e-5, name


@orders
def test_padding_changes_no_density(own: dict[str, Any]) -> None:
    network = predictor(MIXED, **own)
    mask = torch.arange(6)[None] < torch.tensor([6, 4])[:, None]
    x = values(mask)
    both = network.log_prob(x, mask)
    alone = network.log_prob(
        {k: v[1:, :4, :4] if k == "bond" else v[1:, :4] for k, v in x.items()}, mask[1:, :4]
    )
    for name in MIXED:
        assert torch.allclose(both[name][1], alone[name][0], atol=1e-9), name


@orders
def test_nothing_depends_on_what_is_written_later(own: dict[str, Any]) -> None:
    network = predictor(MIXED, **own)
    mask = torch.ones(1, 5, dtype=torch.bool)
    x = values(mask)
    layout, _ = network.layout(5)
    before = network(x, mask)
    slot = 9
    name = layout.names[layout.field[slot]]
    assert name == "bond"
    y = {k: v.clone() for k, v in x.items()}
    i, j = layout.site[slot], layout.other[slot]
    y["bond"][0, i, j] = y["bond"][0, j, i] = 1 - y["bond"][0, i, j]
    after = network(y, mask)
    for key in MIXED:
        earlier = layout.slots(key) <= slot
        assert torch.equal(before[key][:, earlier], after[key][:, earlier])
    assert (before["size"] != after["size"]).any()


def test_a_slot_recalls_what_its_sites_hold() -> None:
    """At the slot of a pair: the kinds of both its sites, and the bonds of each that stand already."""
    fields: dict[str, Field] = {"kind": Categorical(3), "bond": Categorical(2, pairs=True)}
    network, mask = predictor(fields, site_state=True), torch.ones(1, 4, dtype=torch.bool)
    bonds = torch.zeros(1, 4, 4, dtype=torch.long)
    bonds[0, [0, 1, 2, 1], [1, 0, 1, 2]] = 1  # 0-1-2, and 3 alone
    layout, _ = network.layout(4)
    held = network._hold(layout, {"kind": torch.tensor([[0, 1, 2, 1]]), "bond": bonds})
    slot = int(((layout.site == 3) & (layout.other == 1)).nonzero())
    valid = layout.valid(mask, fields)
    later, earlier = (r[0, slot].expm1() for r in network._recalled(held, valid, 4))
    # Kinds 0, 1, 2, then none and bond: atom 3 is of kind 1 and not bonded to 0; atom 1 has two bonds.
    assert later.tolist() == pytest.approx([0, 1, 0, 1, 0])
    assert earlier.tolist() == pytest.approx([0, 1, 0, 0, 2])


def test_a_slot_after_all_pairs_sees_what_sites_near_its_own_hold() -> None:
    """On the path 0-1-2-3, where the turn of site 2 is told of sites 1 and 3, and two ties away of 0."""
    fields: dict[str, Field] = {name: MIXED[name] for name in ("kind", "bond", "turn")}
    network, mask = predictor(fields, graph_hops=2), torch.ones(1, 4, dtype=torch.bool)
    x = {k: v for k, v in values(mask).items() if k in fields}
    x["bond"] = torch.diag(torch.ones(3, dtype=torch.long), 1)[None]
    x["bond"] = x["bond"] + x["bond"].transpose(1, 2)
    layout, _ = network.layout(4)
    held = network._hold(layout, x)
    slot = int(layout.slots("turn")[2 * 2])
    near = network._beside(held, layout.valid(mask, fields), layout, x)
    earlier = torch.arange(len(layout)) < slot
    for sites, seen in zip(([1, 3], [0]), near, strict=True):
        own = sum(
            (held[0] * (earlier & ((layout.site == i) | (layout.other == i)))[:, None]).sum(0) for i in sites
        )
        again = seen[0, slot].sign() * seen[0, slot].abs().expm1()
        assert torch.allclose(again, own, atol=1e-9)
    first = int(layout.slots("bond")[-1]) + 1
    assert all(bool((seen[0, :first] == 0).all()) for seen in near)


def test_hops_need_pairs_that_are_written_first() -> None:
    with pytest.raises(ConfigError, match="graph_hops=1"):
        predictor({"a": Categorical(2), "b": Categorical(3, pairs=True)}, graph_hops=1)
    with pytest.raises(ConfigError, match="use 0"):
        predictor({"a": Categorical(2)}, graph_hops=1)


@pytest.mark.parametrize("pair_order", ["first", "nearest"])
@pytest.mark.parametrize("order", ["forward", "backward", "columns"])
def test_a_layout_writes_what_it_reads_in_any_order(order: str, pair_order: Any) -> None:
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    x = values(mask)
    layout = GenerationOrder.of(MIXED, (4,), order, pair_order)
    assert len(layout) == 4 + 6 + 8 + 4
    for name, f in MIXED.items():
        again = layout.write(name, f, layout.read(name, f, x[name]), mask)
        assert torch.allclose(again.double(), x[name].double(), atol=1e-12)


@pytest.mark.parametrize(
    "pair_order, others", [("first", [0, 0, 1, 0, 1, 2]), ("nearest", [0, 1, 0, 2, 1, 0])]
)
def test_pairs_come_from_the_first_site_or_from_the_nearest(pair_order: Any, others: list[int]) -> None:
    layout = GenerationOrder.of(MIXED, (4,), pair_order=pair_order)
    own = layout.slots("bond")
    assert layout.site[own].tolist() == [1, 2, 2, 3, 3, 3]
    assert layout.other[own].tolist() == others


def test_an_order_changes_only_the_order() -> None:
    """Every order is a distribution over the same images: probabilities of all of them sum to one."""
    every = torch.tensor(list(itertools.product(range(2), repeat=4))).reshape(-1, 2, 2)
    mask = torch.ones(16, 2, 2, dtype=torch.bool)
    totals, tables = [], []
    for order in ("forward", "columns", [3, 1, 0, 2]):
        network = predictor({"x": Categorical(2)}, extent=(2, 2), order=order)
        p = network.log_prob({"x": every}, mask)["x"].exp()
        totals.append(p.sum().item())
        tables.append(p)
    assert totals == pytest.approx([1, 1, 1], abs=1e-6)
    assert not torch.allclose(tables[0], tables[1])


def test_it_learns_a_known_distribution() -> None:
    """Strings over two letters, the second as likely as not the first: KL to the truth vanishes."""
    records = ["CC"] * 4 + ["CO"] * 2 + ["OC"] + ["OO"]
    model = AutoregressiveModel("smiles", trunk_options=SMALL)
    model.fit(records * 8, max_steps=250, batch_size=64, lr=3e-3, seed=0)
    log_p = model.log_prob(["CC", "CO", "OC", "OO"])
    assert torch.allclose(log_p.exp(), torch.tensor([0.5, 0.25, 0.125, 0.125]).double(), atol=0.03)
    drawn = model.sample(400, seed=1)
    assert drawn.count("CC") / 400 == pytest.approx(0.5, abs=0.1)
    assert set(model.sample(50, seed=0, temperature=0.01)) == {"CC"}
    assert set(model.sample(50, seed=0, top_k=1)) == {"CC"}
    assert model.complete("O", n=20, seed=0, size=2).count("OC") == pytest.approx(10, abs=7)


def test_completion_keeps_what_is_given() -> None:
    modality = ImageModality((4, 4, 1), binarised=True)
    images = [
        np.where(np.random.default_rng(i).random((4, 4, 1)) < 0.3, 255, 0).astype(np.uint8) for i in range(8)
    ]
    model = AutoregressiveModel(modality, order="columns", trunk="transformer", trunk_options=SMALL)
    model.fit(images, max_steps=3, batch_size=4, seed=0)
    completed = model.complete(images[0], n=3, sites=8, seed=0)
    for image in completed:
        assert (image[:, :2] == images[0][:, :2]).all()
    assert any((image[:, 2:] != images[0][:, 2:]).any() for image in completed)


@pytest.mark.parametrize("order", ["forward", "columns"])
@pytest.mark.parametrize("trunk", ["rows", "pixelcnn", "transformer"])
def test_probabilities_of_all_tiny_images_sum_to_one(trunk: str, order: str) -> None:
    every = np.array(list(itertools.product([0, 255], repeat=9)), np.uint8).reshape(-1, 3, 3, 1)
    options = {"rows": {"width": 8, "row_width": 16}, "pixelcnn": {"width": 8, "depth": 3}}
    model = AutoregressiveModel(
        ImageModality((3, 3, 1), binarised=True),
        order=order,
        trunk=trunk,
        trunk_options=options.get(trunk, SMALL),
    )
    model.fit(every[::7], max_steps=20, batch_size=32, lr=1e-2, seed=0)
    assert model.log_prob(every, seed=0).exp().sum().item() == pytest.approx(1, abs=1e-4)


def test_data_tell_whether_bits_are_all_there_is() -> None:
    """Images of two levels lose nothing as bits, so that log p is exact once they are known; others do."""
    for levels, access in (([0, 255], "exact"), ([0, 100, 255], "lower bound")):
        images = np.random.default_rng(0).choice(np.array(levels, np.uint8), (8, 3, 3, 1))
        model = AutoregressiveModel("image", view="binary", trunk_options={"width": 8, "row_width": 16})
        assert model.likelihood == "lower bound"
        assert model.fit(list(images), max_steps=1, batch_size=4, seed=0).likelihood == access


@pytest.mark.parametrize("name", ["smiles", "graph"])
def test_samples_share_rows_until_they_part(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted(name, "autoregressive")
    counts: list[int] = []
    extend = Transformer.extend

    def counting(self: Transformer, site: Tensor, memory: Any) -> Tensor:
        counts.append(len(site))
        return extend(self, site, memory)

    monkeypatch.setattr(Transformer, "extend", counting)
    values = []
    for shares in (True, False):
        monkeypatch.setattr(Transformer, "shares", shares)
        values.append(draw(model, 80))
    for ours, plain in zip(*values, strict=True):
        assert all((ours[k] == plain[k]).all() for k in plain)
    shared, apart = counts[: len(counts) // 2], counts[len(counts) // 2 :]
    sizes = set(model.modality.draw_sizes(0, range(80)))
    assert shared[0] == len(sizes) < apart[0] == 80 and shared == sorted(shared) and sum(shared) < sum(apart)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="temperature"):
        AutoregressiveModel("smiles", temperature=0)
    with pytest.raises(ConfigError, match="order"):
        AutoregressiveModel("smiles", order="sideways", trunk_options=SMALL).fit(["CC"] * 4, max_steps=1)
    with pytest.raises(ConfigError, match="top_p"):
        AutoregressiveModel("smiles", top_p=1.5)
    with pytest.raises(UnsupportedError, match="ordered"):
        AutoregressiveModel("protein", view="cartesian")
    model = AutoregressiveModel("smiles", trunk_options=SMALL).fit(["CC", "CO"] * 4, max_steps=1, seed=0)
    with pytest.raises(UnsupportedError, match="steps"):
        model.sample(1, steps=5)


def test_values_of_the_whole_sample_are_written_once() -> None:
    """Slots where a field has no value tell nothing, are asked nothing, and leave uniforms to the others."""
    fields: dict[str, Field] = {"kind": Categorical(3), "cell": Continuous(2, whole=True)}
    network, mask = predictor(fields), torch.ones(1, 4, dtype=torch.bool)
    layout, _ = network.layout(4)
    assert layout.valid(mask, fields).sum() == 4 + 2
    values = {"kind": torch.tensor([[0, 1, 2, 1]]), "cell": torch.zeros(1, 4, 2)}
    junk = {**values, "cell": values["cell"].index_fill(1, torch.tensor([1, 2, 3]), 7.0)}
    first, second = (network.log_prob(v, mask) for v in (values, junk))
    assert all(torch.equal(first[k], second[k]) for k in fields)
    drawn = network.write(mask, SampleRandom(0, [0]))["cell"]
    assert (drawn[:, 1:] == 0).all() and (drawn[:, 0] != 0).all()
