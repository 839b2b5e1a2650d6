"Matrices in 8 and 4 bits: another model, known as such, and the engine is proven against it. Skipped where the packages are not installed."
from importlib.util import find_spec
import pandas as pd
import pytest, torch
from bizzaroworld import experiments, headings, knowledge, proof, routing, study, studies
from bizzaroworld.bench import random_pairs, study_patches
from bizzaroworld.engine import patch_all
from bizzaroworld.facts import InputError
from bizzaroworld.models import load
from bizzaroworld.network import Network
from bizzaroworld.placement import packed, plain_weight, unpacked
from bizzaroworld.plain import PACKERS
from zoo import tiny, tiny_tokenizer

BITS = [pytest.param(b, marks=pytest.mark.skipif(find_spec(p) is None, reason=f"{b} bits need the package {p}"))
    for b, p in PACKERS.items()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("packed")/"tiny-llama"
    tiny("llama").save_pretrained(place); tiny_tokenizer(True).save_pretrained(place)
    return place


def pairs_of(model): return random_pairs([(7, 2, 4), (9, 3, 4), (7, 2, 4)], vocab=model.plain.config.vocab_size)


@pytest.mark.parametrize("bits", BITS)
def test_a_packed_model_is_proven_against_itself(folder, bits):
    model, plain = load(folder, device="cpu", bits=bits), load(folder, device="cpu")
    net, pairs = Network(model), pairs_of(model)
    found = proof.prove(model, net, pairs)
    assert found["largest"] < 1e-4 and experiments.noise_floor(net, pairs[:2]) < 1e-4
    assert model.study_name == f"tiny-llama-{bits}bit" and model.bits == bits and plain.bits is None
    assert any(packed(p) for p in model.plain.parameters())
    ours, theirs = (patch_all(n, pairs, study_patches(net)[:20]).ld for n in (net, Network(plain)))
    assert (ours - theirs).abs().max() > 1e-4   # it is another model
    routing.direct_logit_attribution(net, pairs)   # which reads the matrices themselves


@pytest.mark.parametrize("bits", BITS)
def test_what_a_token_gives_does_not_depend_on_the_batch(folder, bits):
    model = load(folder, device="cpu", bits=bits, self_test=False)
    layer = next(m for m in model.plain.modules() if packed(getattr(m, "weight", None)))
    torch.manual_seed(0)
    x, wild = torch.randn(5, 6, layer.in_features), torch.randn(5, 6, layer.in_features)
    wild[0] = x[0]; wild[1:] *= 100   # what stands beside it has large values
    with torch.inference_mode():
        wanted = x @ plain_weight(layer).T
        for got in (layer(x), torch.cat([layer(r[None]) for r in x]), torch.stack([torch.cat([layer(t[None, None])[0] for t in r]) for r in x])):
            assert (got - wanted).abs().max() < 1e-5 * wanted.abs().max()
        assert (layer(wild)[0] - wanted[0]).abs().max() < 1e-5 * wanted.abs().max()
    alone = unpacked(model.plain.get_decoder().layers[0])
    assert not any(packed(p) for p in alone.parameters())


@pytest.mark.parametrize("bits", BITS)
def test_a_packed_study_is_not_mixed_with_a_plain_one(folder, bits, tmp_path):
    table = pd.DataFrame([dict(category=c, clean_prompt=f"the capital of {a} is", corrupt_prompt=f"the capital of {b} is", clean_target=f" {x}", corrupt_target=f" {y}")
        for c, a, x, b, y in [("a", "france", "paris", "japan", "tokyo"), ("b", "spain", "madrid", "italy", "rome")]])
    done = study.study(load(folder, device="cpu", bits=bits), table, out=tmp_path/"it", quick=True)
    assert done.run["bits"] == done.run["settings"]["bits"] == bits and PACKERS[bits] in done.run["versions"]
    for said in (studies.number_format(done.run), headings.weights_said(done.run)): assert f"{bits} bits" in said
    with pytest.raises(InputError, match="other settings"): study.study(load(folder, device="cpu"), table, out=tmp_path/"it", quick=True)
