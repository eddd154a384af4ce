"""The demo model is a model like any other to the stock nodes."""

import pytest
import torch
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.host


def test_the_unet_has_sdxl_s_attention_blocks(demo):
    host = demo.pack.nodes._host.sdxl
    assert host.attention_blocks(demo.model) == host.SDXL_BLOCKS


def test_weights_are_fp16_and_small():
    from demo.training.hosting import WEIGHTS

    files = list(WEIGHTS.glob("*.safetensors"))
    assert {f.name for f in files} >= {"unet.safetensors", "text.safetensors", "vae.safetensors"}
    assert sum(f.stat().st_size for f in files) <= 40_000_000
    for file in files:
        kinds = {str(t.dtype) for k, t in load_file(file).items() if k != "token_ids"}
        assert kinds == {"torch.float16"}, file.name


def test_clip_wiring_is_sdxl_s(demo):
    ((context, details),) = demo.encode("a cat")
    assert context.shape == (1, 77, 192)
    assert details["pooled_output"].shape == (1, 128)
    assert not torch.equal(context, demo.encode("a house")[0][0])


def test_unknown_words_share_one_embedding(demo):
    assert torch.equal(demo.encode("a zebra")[0][0], demo.encode("a dog")[0][0])


def test_the_host_can_load_another_of_each(demo):
    """For hooks on a model whose weights come and go, and for another GPU."""
    import comfy.model_patcher

    for patcher in (demo.model, demo.clip.patcher, demo.vae.patcher):
        load, arguments = patcher.clone().cached_patcher_init
        again = load(*arguments)
        assert type(again) is type(patcher) and again.model is not patcher.model
        ours, theirs = patcher.model.state_dict(), again.model.state_dict()
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    load, arguments = demo.model.cached_patcher_init
    assert type(load(*arguments, disable_dynamic=True)) is comfy.model_patcher.ModelPatcher


def test_the_loader_gives_out_a_picture_in_a_style_of_its_own(demo):
    """As the picture source draws it: a star, and no style of the training's."""
    import numpy as np

    from demo.pictures import draw
    from demo.styles import HELD_OUT

    *_, picture = demo.pack.nodes.demo_model.LoadDemoModel.execute().result
    assert picture.shape == (1, 128, 128, 3) and picture.dtype == torch.float32
    drawn = draw("star", HELD_OUT["lava"], np.random.default_rng(1))
    assert np.allclose(picture[0].numpy(), drawn) and 0 <= picture.min() < picture.max() <= 1


def test_vae_encode_and_decode_nodes(demo, star):
    import nodes

    latent = nodes.VAEEncode().encode(demo.vae, star)[0]
    assert latent["samples"].shape == (1, 4, 16, 16)
    back = nodes.VAEDecode().decode(demo.vae, latent)[0]
    assert back.shape == star.shape
    assert (back - star).square().mean() < 10**-2.0


def test_the_adapter_carries_the_style_of_a_picture_through_output_5(demo, four, star):
    """And not through SDXL's style block, which this UNet hardly uses; demo/README.md says so."""
    from demo.training.descriptor import similarity

    nodes = demo.pack.nodes.ip_adapter
    adapter, about = demo.pack.nodes.adapter_loaders.LoadIPAdapter.execute("demo IP-Adapter").result
    assert "base adapter, 4 tokens of 192, 12 attention layers" in about
    vision = demo.pack.nodes.demo_model.LoadDemoModel.execute().result[3]

    def alike(block):
        weights = demo.pack.zsamb_core.instantstyle.blocks.parse_weights(f"{block} = 1")
        model = nodes.StyleBlockIPAdapter.execute(
            demo.model, adapter, star, 1.0, "style", "centre", 0.0, 1.0, "1", "", 0.5, vision,
            block_weights=weights,
        ).result[0]  # fmt: skip
        drawn = demo.vae.decode(demo.sample(model, four, steps=12, cfg=5.0)).clamp(0, 1)
        return similarity(list(drawn.cpu().numpy()), star[0].cpu().numpy())

    assert alike("output 5") > alike("output 1") + 0.2


def test_lora_clones_change_the_clone_alone(demo, four, tmp_path, monkeypatch, stock):
    import folder_paths

    import nodes

    weight = demo.model.model.diffusion_model.output_blocks[1][1].transformer_blocks[0].attn1.to_q.weight
    key = "lora_unet_output_blocks_1_1_transformer_blocks_0_attn1_to_q"
    generator = torch.Generator().manual_seed(0)
    save_file({
        f"{key}.lora_up.weight": torch.randn(weight.shape[0], 4, generator=generator),
        f"{key}.lora_down.weight": torch.randn(4, weight.shape[1], generator=generator),
    }, tmp_path / "tiny.safetensors")  # fmt: skip
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(tmp_path)], {".safetensors"}))
    model, clip = nodes.LoraLoader().load_lora(demo.model, demo.clip, "tiny.safetensors", 1.0, 1.0)
    assert not torch.equal(demo.sample(model, four), stock)
    assert not torch.equal(demo.sample(demo.patched(model), four), demo.sample(demo.patched(), four))
    assert torch.equal(demo.sample(demo.model, four), stock)


def test_checkpoint_save_writes_the_model(demo, tmp_path):
    from comfy_extras.nodes_model_merging import CheckpointSave

    node = CheckpointSave()
    node.output_dir = str(tmp_path)
    node.save(demo.model, demo.clip, demo.vae, "demo")
    (file,) = tmp_path.glob("*.safetensors")
    saved = load_file(file)
    weight = demo.model.model.diffusion_model.input_blocks[0][0].weight
    assert torch.equal(saved["model.diffusion_model.input_blocks.0.0.weight"].float(), weight.float())
    assert any(k.startswith("first_stage_model.decoder") for k in saved)
    assert any(k.startswith("conditioner.embedders.1") for k in saved)
