"""IP-Adapter files that can be read and are no adapter, or not a whole one: what each is told."""

import pytest
import torch
from safetensors.torch import save_file

from tests.core.instantstyle.adapter_files import FEATURES, LAYERS, WIDTH, base, plus, refused, write, zipped
from tests.host.adapters import flat
from zsamb_core.instantstyle.adapter_file import open_adapter
from zsamb_core.instantstyle.image_tokens import keys_and_values


def drop(name):
    return lambda tensors: tensors.pop(name)


def put(name, tensor):
    return lambda tensors: tensors.update({name: tensor})


def turned(name):
    return lambda tensors: tensors.update({name: tensors[name].T.contiguous()})


def only(prefix):
    def change(tensors):
        for name in [n for n in tensors if not n.startswith(prefix)]:
            del tensors[name]

    return change


def lora(tensors):
    tensors.clear()
    tensors["lora_unet_down_blocks_1_attn2_to_k.lora_down.weight"] = torch.ones(4, 8)
    tensors["lora_unet_down_blocks_1_attn2_to_k.alpha"] = torch.tensor(4.0)


def even(tensors):
    for p in "kv":
        tensors[f"ip_adapter.4.to_{p}_ip.weight"] = torch.ones(4, WIDTH)


def no_pairs(tensors):
    only("image_proj.")(tensors)
    tensors["ip_adapter.up.weight"] = torch.ones(2, 2)


def other_width(tensors):
    for n in LAYERS:
        for p in "kv":
            tensors[f"ip_adapter.{n}.to_{p}_ip.weight"] = torch.ones(4, WIDTH + 1)


K, V = "ip_adapter.3.to_k_ip.weight", "ip_adapter.3.to_v_ip.weight"
BROKEN_BASE = {
    "a LoRA": (lora, "is not an IP-Adapter: found lora_unet.*expected tensors image_proj"),
    "no attention": (only("image_proj."), "is not an IP-Adapter"),
    "no projector": (only("ip_adapter."), "is not an IP-Adapter"),
    "no pairs": (no_pairs, "ip_adapter has up.weight, expected pairs"),
    "K without V": (drop(V), "3.to_k_ip.weight is 4 by 8 and ip_adapter.3.to_v_ip.weight missing"),
    "V without K": (drop(K), "3.to_v_ip.weight is 4 by 8 and ip_adapter.3.to_k_ip.weight missing"),
    "K unlike V": (put(K, torch.ones(5, WIDTH)), "is 5 by 8 and .* 4 by 8, expected two of one shape"),
    "K turned": (turned(K), "8 by 4 .*expected two of one shape"),
    "K of one dimension": (put(K, torch.ones(8)), "expected two of one shape"),
    "K without dimension": (put(K, torch.tensor(1.0)), "a single number"),
    "even numbers": (even, "has an even number, expected odd ones"),
    "other token width": (other_width, "4 by 9 .*attention layer's width by 8 as image_proj makes tokens of"),
    "rows no multiple": (
        put("image_proj.proj.weight", torch.ones(4 * WIDTH + 1, FEATURES)),
        "proj.weight is 33 by 6.*norm.weight 8",
    ),
    "no bias": (drop("image_proj.proj.bias"), "image_proj.proj.bias is missing, expected 32"),
    "short bias": (put("image_proj.proj.bias", torch.ones(31)), "image_proj.proj.bias is 31, expected 32"),
    "no norm": (drop("image_proj.norm.weight"), "expected proj.weight and norm.weight"),
    "no norm bias": (drop("image_proj.norm.bias"), "image_proj.norm.bias is missing, expected 8"),
    "no proj": (drop("image_proj.proj.weight"), "expected proj.weight and norm.weight"),
    "empty proj": (put("image_proj.proj.weight", torch.ones(0, 6)), "proj.weight is 0 by 6"),
    "proj of no features": (put("image_proj.proj.weight", torch.ones(32, 0)), "proj.weight is 32 by 0"),
    "empty norm": (put("image_proj.norm.weight", torch.ones(0)), "norm.weight 0"),
    "norm without dimension": (
        put("image_proj.norm.weight", torch.tensor(1.0)),
        "norm.weight a single number",
    ),
    "whole numbers": (put(K, torch.ones(4, WIDTH, dtype=torch.int8)), "3.to_k_ip.weight holds whole numbers"),
    "whole numbers in the projector": (
        put("image_proj.proj.weight", torch.ones(32, 6, dtype=torch.int64)),
        "proj.weight holds whole numbers",
    ),
    "a truth value": (put(K, torch.ones(4, WIDTH, dtype=torch.bool)), "missing|holds whole numbers"),
    "both projectors": (
        put("image_proj_model.proj.weight", torch.ones(32, 6)),
        "both stand for image_proj.proj.weight",
    ),
    "both attentions": (
        put("adapter_modules.3.to_k_ip.weight", torch.ones(4, 8)),
        "both stand for ip_adapter.3.to_k_ip.weight",
    ),
    "FaceID": (
        put("ip_adapter.1.to_q_lora.down.weight", torch.ones(2, 8)),
        "is a FaceID adapter.*not supported",
    ),
    "FaceID plus": (
        put("image_proj.perceiver_resampler.proj_in.weight", torch.ones(2, 8)),
        "is a FaceID adapter",
    ),
    "full face": (put("image_proj.proj.0.weight", torch.ones(2, 8)), "is a FaceID or full-face adapter"),
    "NaN in the projector": (
        put("image_proj.norm.bias", torch.full((8,), torch.nan)),
        "image_proj.norm.bias has values that are not",
    ),
    "inf in the projector": (
        put("image_proj.proj.bias", torch.full((32,), torch.inf)),
        "image_proj.proj.bias has values that are not",
    ),
    "inf in half precision": (
        put("image_proj.proj.bias", torch.full((32,), -torch.inf).half()),
        "image_proj.proj.bias has values",
    ),
    "NaN in a K": (put(K, torch.full((4, 8), torch.nan)), "ip_adapter.3.to_k_ip.weight has values"),
    "inf in a V": (put(V, torch.full((4, 8), torch.inf)), "ip_adapter.3.to_v_ip.weight has values"),
    "NaN in fp8": (
        put(K, torch.full((4, 8), torch.nan).to(torch.float8_e4m3fn)),
        "3.to_k_ip.weight has values",
    ),
}
RESAMPLER = "image_proj.layers."
BROKEN_PLUS = {
    "no latents": (drop("image_proj.latents"), "expected proj.weight and norm.weight .* or latents"),
    "flat latents": (put("image_proj.latents", torch.ones(16, 10)), r"expected a plus adapter's latents"),
    "two latents": (
        put("image_proj.latents", torch.ones(2, 16, 10)),
        "latents is 2 by 16 by 10, expected 1 by 16",
    ),
    "no proj_in": (drop("image_proj.proj_in.weight"), "expected a plus adapter's latents"),
    "no proj_out": (drop("image_proj.proj_out.weight"), "expected a plus adapter's latents"),
    "no norm_out": (drop("image_proj.norm_out.bias"), "image_proj.norm_out.bias is missing, expected 8"),
    "no to_kv": (
        drop(RESAMPLER + "1.0.to_kv.weight"),
        "layers.1.0.to_kv.weight is missing, expected 256 by 10",
    ),
    "no to_q": (drop(RESAMPLER + "0.0.to_q.weight"), "to_q.weight has 0 rows, expected a multiple of 64"),
    "wrong head width": (
        put(RESAMPLER + "0.0.to_q.weight", torch.ones(96, 10)),
        "has 96 rows, expected a multiple",
    ),
    "other to_kv": (
        put(RESAMPLER + "0.0.to_kv.weight", torch.ones(128, 10)),
        "is 128 by 10, expected 256 by 10",
    ),
    "no layers": (
        only(("image_proj.latents", "image_proj.p", "image_proj.n", "ip_adapter.")),
        "has 0 layers",
    ),
    "a layer left out": (
        put(RESAMPLER + "3.0.norm1.weight", torch.ones(10)),
        "layers.2.0.norm1.weight is missing",
    ),
    "hundreds of layers": (
        put(RESAMPLER + "999.0.norm1.weight", torch.ones(10)),
        "has 1000 layers, expected",
    ),
    "other channels": (put("image_proj.proj_out.weight", torch.ones(8, 11)), "is 8 by 11, expected 8 by 10"),
    "NaN": (put("image_proj.latents", torch.full((1, 16, 10), torch.nan)), "image_proj.latents has values"),
}


@pytest.mark.parametrize("writer", ["safetensors", "bin"])
@pytest.mark.parametrize(
    ("make", "case"),
    [(base, case) for case in BROKEN_BASE] + [(plus, case) for case in BROKEN_PLUS],
)
def test_broken_adapters_are_refused(tmp_path, make, case, writer):
    change, phrase = (BROKEN_BASE if make is base else BROKEN_PLUS)[case]
    tensors = flat(make())
    change(tensors)
    path = tmp_path / f"broken.{writer}"
    (save_file if writer == "safetensors" else zipped)(tensors, path)
    refused(path, phrase)


@pytest.mark.parametrize("make", [base, plus])
def test_every_tensor_is_needed_and_in_its_shape(tmp_path, make):
    path = tmp_path / "broken.safetensors"
    for name, tensor in flat(make()).items():
        changes = [drop(name)]
        if name not in ("image_proj.proj.weight", "image_proj.proj_in.weight"):  # any number of features
            changes.append(put(name, tensor[..., :-1].contiguous()))
        if tensor.ndim == 2 and tensor.shape != tensor.T.shape:
            changes.append(turned(name))
        for change in changes:
            tensors = flat(make())
            change(tensors)
            save_file(tensors, path)
            refused(path, "expected")


def test_not_finite_values_are_found_at_reading_only(tmp_path):
    tensors = flat(base())
    tensors[K] = tensors[K].clone()
    tensors[K][2, 3] = torch.nan
    path = tmp_path / "nan.safetensors"
    save_file(tensors, path)
    adapter = open_adapter(path)
    adapter.read_projector()
    assert keys_and_values(adapter, torch.ones(1, WIDTH), [1, 69]).keys() == {1, 69}
    with pytest.raises(
        ValueError, match="nan.safetensors: the tensor ip_adapter.3.to_k_ip.weight has values"
    ):
        keys_and_values(adapter, torch.ones(1, WIDTH), [1, 3])


def test_a_file_that_is_damaged_after_it_was_opened_is_refused(tmp_path):
    for container in ("flat safetensors", "nested bin"):
        path = write(tmp_path, base(), container)
        adapter = open_adapter(path)
        path.unlink()
        with pytest.raises(ValueError, match=f"{path.name} cannot be"):
            adapter.read_projector()
        path.write_bytes(b"another file")
        with pytest.raises(ValueError, match=f"{path.name} cannot be"):
            keys_and_values(adapter, torch.ones(1, WIDTH), [1])


# Random damage.
