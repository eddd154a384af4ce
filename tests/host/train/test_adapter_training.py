"""What is trained: the right tensors, by the right gradients, with the attention that the nodes draw with."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from zsamb_core.instantstyle.adapter_file import open_adapter
from zsamb_core.layers import Layer
from zsamb_train import recipe
from zsamb_train.adapter import StyleAdapter, new_projector, shapes_of, start_anew, start_from
from zsamb_train.host import attention, compute_again, load_host
from zsamb_train.layers import chosen_layers, numbers_of
from zsamb_train.patches import plain, with_images
from zsamb_train.result import write_adapter

BATCH, SIDE, FEATURES = 2, 8, 128


@pytest.fixture(scope="module")
def host():
    return load_host("demo", None, half=False)


def adapter_for(host, blocks, kind="base"):
    numbers = numbers_of(chosen_layers(blocks, host.widths), host.widths)
    projector = new_projector(kind, host.context_width, FEATURES)
    adapter = StyleAdapter(projector, shapes_of(projector), {n: host.widths[x] for x, n in numbers.items()})
    own = {n: host.to_key_and_value()[layer] for layer, n in numbers.items()}
    start_anew(adapter, own, torch.Generator().manual_seed(0))
    return adapter, numbers


def inputs(host):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(BATCH, 4, SIDE, SIDE, generator=generator)
    features = torch.randn(BATCH, FEATURES, generator=generator)
    context, pooled = host.read_texts(["a cat", "a house"])
    y = host.describe_sizes(pooled, [(64, 64)] * 2, [(0, 0)] * 2, [(64, 64)] * 2)
    return x, torch.tensor([600.0, 300.0]), context, y, features


def test_texts_and_sizes_are_read_as_the_hosts_own_nodes_do(host):
    texts = ["a cat", "", "a (red:1.3) house"]
    context, pooled = host.read_texts(texts)
    for i, text in enumerate(texts):
        tokens = host.clip.tokenize(text, disable_weights=True)
        one, also = host.clip.encode_from_tokens(tokens, return_pooled=True)
        torch.testing.assert_close(context[i], one[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(pooled[i], also[0], atol=1e-5, rtol=1e-5)
    y = host.describe_sizes(pooled, [(640, 480)] * 3, [(8, 16)] * 3, [(512, 384)] * 3)
    wanted = host.model.model.encode_adm(
        pooled_output=pooled, width=640, height=480, crop_h=8, crop_w=16, target_width=512, target_height=384
    )
    torch.testing.assert_close(y, wanted)


def test_it_is_what_the_node_draws_with(host, pack, tmp_path):
    """The same model call, by a file that Load IP-Adapter reads and StyleBlockIPAdapter's hooks."""
    adapter, numbers = adapter_for(host, "all")
    x, t, context, y, features = inputs(host)
    with torch.no_grad():
        said = host.predict(x, t, context, y, with_images(adapter(features), numbers, attention(host.device)))
        without = host.predict(x, t, context, y, plain(attention(host.device)))
    assert (said - without).abs().mean() > 0.02  # ten times what may differ below
    place = tmp_path / "adapter.safetensors"
    write_adapter(place, adapter.double(), dict(adapter.named_parameters()), numbers, {"steps": "7"})
    host_nodes, core = pack.nodes._host.instantstyle, pack.zsamb_core.instantstyle
    structure = pack.nodes._host.sdxl.cross_attention(host.model, host.context_width, "Test")
    file = core.adapter_file.open_adapter(place)
    for row in range(BATCH):
        encoder = core.style_embeds.Encoder(64, FEATURES)
        embeds = core.style_embeds.StyleEmbeds(
            encoder, features[row : row + 1], torch.zeros(1, 2, 64), torch.zeros(2, 64), (1.0,)
        )
        weights = core.blocks.preset_weights("all", list(structure))
        images = core.style_images.project_images(file, embeds, weights, structure)
        clone = host_nodes.style_images.with_images(host.model, images)
        options = dict(clone.model_options["transformer_options"])
        sigma = host.sigmas[t[row].long()][None]
        options |= {"cond_or_uncond": [0], "uuids": [0], "wrappers": clone.wrappers, "sigmas": sigma}
        a = 1 / (1 + sigma**2)
        with torch.no_grad():
            denoised = host.model.model.apply_model(
                x[row : row + 1] / a.sqrt().view(-1, 1, 1, 1), sigma, c_crossattn=context[row : row + 1],
                y=y[row : row + 1], transformer_options=options,
            )  # fmt: skip
        # v-prediction: x0 = sqrt(a) x - sqrt(1 - a) v
        wanted = a.sqrt() * x[row] - (1 - a).sqrt() * said[row]
        # The file is in fp16.
        torch.testing.assert_close(denoised[0], wanted, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("kind", ["base", "plus"])
def test_gradients_are_those_of_finite_differences(host, kind):
    adapter, numbers = adapter_for(host, "output 1", kind)
    adapter, unet = adapter.double(), host.unet.double()
    try:
        x, t, context, y, features = (v.double() for v in inputs(host))
        if kind == "plus":
            features = torch.stack([features, features.flip(1), -features], 1)
        kernel = attention(host.device)

        def loss() -> torch.Tensor:
            options = with_images(adapter(features), numbers, kernel)
            out = unet(x, t, context=context, y=y, transformer_options=options)
            return out.square().mean()

        loss().backward()
        generator, checked = torch.Generator().manual_seed(3), 0
        for name, value in adapter.named_parameters():
            direction = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            told, step = float((value.grad * direction).sum()), 1e-5
            with torch.no_grad():
                value += step * direction
                above = float(loss())
                value -= 2 * step * direction
                below = float(loss())
                value += step * direction
            assert told == pytest.approx((above - below) / (2 * step), rel=2e-4, abs=1e-9), name
            checked += told != 0
        assert checked >= len(dict(adapter.named_parameters())) - 3
    finally:
        unet.float()


def test_blocks_computed_again_give_the_same_gradients(host):
    adapter, numbers = adapter_for(host, "style and layout")
    x, t, context, y, features = inputs(host)

    def gradients():
        adapter.zero_grad()
        options = with_images(adapter(features), numbers, attention(host.device))
        host.predict(x, t, context, y, options).square().mean().backward()
        return [p.grad.clone() for p in adapter.parameters()]

    plainly = gradients()
    forwards = {m: m.__dict__.get("forward") for m in host.unet.modules()}
    compute_again(host.unet)
    try:
        again = gradients()
    finally:
        for module, forward in forwards.items():
            if forward is None:
                module.__dict__.pop("forward", None)
    for a, b in zip(plainly, again, strict=True):
        torch.testing.assert_close(a, b, atol=1e-7, rtol=1e-5)


def test_the_start_is_the_layers_own_and_a_file_goes_on(host, tmp_path):
    adapter, numbers = adapter_for(host, "style")
    (layer, number), *_ = numbers.items()
    k, v = host.to_key_and_value()[layer]
    assert torch.equal(adapter.to_k[str(number)], k) and torch.equal(adapter.to_v[str(number)], v)
    place = tmp_path / "a.safetensors"
    write_adapter(place, adapter, {n: p * 0.5 for n, p in adapter.named_parameters()}, numbers, {})
    wider = numbers_of(chosen_layers("style and layout", host.widths), host.widths)
    own = {n: host.to_key_and_value()[x] for x, n in wider.items()}
    other, lacking = start_from(place, {n: host.widths[x] for x, n in wider.items()}, own)
    assert lacking == [n for n in wider.values() if n not in numbers.values()] and len(lacking) > 0
    torch.testing.assert_close(other.to_k[str(number)].data, k / 2, atol=1e-3, rtol=1e-3)
    assert torch.equal(other.to_k[str(lacking[0])], own[lacking[0]][0])


def test_the_file_has_the_trained_blocks_alone_and_says_what_it_is(host, pack, tmp_path):
    adapter, numbers = adapter_for(host, "output 1")
    place = tmp_path / "adapter.safetensors"
    write_adapter(
        place, adapter, dict(adapter.named_parameters()), numbers, {"steps": "12", "pairs": "group"}
    )
    with safe_open(place, "pt") as file:
        names, about = set(file.keys()), file.metadata()
        kinds = {file.get_tensor(name).dtype for name in names}
    assert {n.split(".")[1] for n in names if n.startswith("ip_adapter.")} == set(map(str, numbers.values()))
    assert json.loads(about["blocks"]) == ["output 1"] and about["steps"] == "12" and kinds == {torch.float16}
    assert set(open_adapter(place).layers) == set(numbers.values())
    assert {Layer(*x).block for x in numbers} == {("output", 1)}
    said = pack.nodes.adapter_loaders.about(pack.zsamb_core.instantstyle.adapter_file.open_adapter(place))
    assert said.endswith("Its blocks: output 1. Trained by zsamb train for 12 steps, pairs: group.")
    own = pack.nodes._host.demo_model.demo_adapter("Test")
    said = pack.nodes.adapter_loaders.about(pack.zsamb_core.instantstyle.adapter_file.open_adapter(own))
    assert "blocks:" not in said and "Trained" not in said


def test_recipe_draws_depend_on_seed_and_place_alone(host):
    log_snr = recipe.log_snr_of(host.alphas())
    published = recipe.Recipe()
    one, again = (recipe.draw(published, 3, 77, (4, 8, 8), log_snr) for _ in range(2))
    assert one.step == again.step and torch.equal(one.noise, again.noise)
    other = recipe.draw(published, 3, 78, (4, 8, 8), log_snr)
    assert not torch.equal(one.noise, other.noise)
    many = [recipe.draw(published, 1, i, (4, 2, 2), log_snr) for i in range(4000)]
    shares = [
        sum(not d.image and d.text for d in many), sum(d.image and not d.text for d in many),
        sum(not d.image and not d.text for d in many),
    ]  # fmt: skip
    assert all(150 < n < 250 for n in shares)
    assert 450 < sum(d.step for d in many) / 4000 < 550
    style = replace(published, timesteps="style", style_share=1.0, style_spread=0.5, style_mean=-3.0)
    steps = [recipe.draw(style, 1, i, (4, 2, 2), log_snr).step for i in range(300)]
    assert abs(float(log_snr[steps].mean()) + 3.0) < 0.15
    offset = replace(published, offset_noise=0.5)
    with_offset = [recipe.draw(offset, 1, i, (4, 8, 8), log_snr).noise.mean((1, 2)) for i in range(300)]
    assert float(torch.stack(with_offset).std()) == pytest.approx((0.25 + 1 / 64) ** 0.5, rel=0.1)


def test_min_snr_weights():
    a = torch.tensor([0.5, 0.9, 0.99])  # SNR 1, 9, 99
    told = recipe.weights(recipe.Recipe(min_snr=5.0), a, velocity=False)
    torch.testing.assert_close(told, torch.tensor([1.0, 5 / 9, 5 / 99]))
    told = recipe.weights(recipe.Recipe(min_snr=5.0), a, velocity=True)
    torch.testing.assert_close(told, torch.tensor([1 / 2, 5 / 10, 5 / 100]))
    assert torch.equal(recipe.weights(recipe.Recipe(), a, velocity=True), torch.ones(3))
